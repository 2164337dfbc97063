#!/usr/bin/env bash
# Base-to-new generalisation among all classes: test the model of base2new_train.sh on all classes at once.
#
#   bash scripts/base2new_all.sh TRAINER CFG DATASET SEED [SHOTS] [KEY VALUE ...]
#
# Output: output/base2new/test_all/DATASET/shots_16/TRAINER/CFG/seed1
# DATA and OUTPUT name other folders than data and output in the checkout; a finished run is not done again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

set_up ""
exec "$PYTHON" "$ROOT/tools/step.py" base2new_all "$@"
