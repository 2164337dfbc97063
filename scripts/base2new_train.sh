#!/usr/bin/env bash
# Base-to-new generalisation, first half: train on the base classes and test on them.
#
#   bash scripts/base2new_train.sh TRAINER CFG DATASET SEED [SHOTS] [KEY VALUE ...]
#
# Output: output/base2new/train_base/DATASET/shots_16/TRAINER/CFG/seed1
# DATA and OUTPUT name other folders than data and output in the checkout; a finished run is not done again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

set_up ""
exec "$PYTHON" "$ROOT/tools/step.py" base2new_train "$@"
