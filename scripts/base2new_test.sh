#!/usr/bin/env bash
# Base-to-new generalisation, second half: test the model of base2new_train.sh on the new classes.
#
#   bash scripts/base2new_test.sh TRAINER CFG DATASET SEED [SHOTS] [KEY VALUE ...]
#
# Output: output/base2new/test_new/DATASET/shots_16/TRAINER/CFG/seed1
# DATA and OUTPUT name other folders than data and output in the checkout; a finished run is not done again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

set_up ""
exec "$PYTHON" "$ROOT/tools/step.py" base2new_test "$@"
