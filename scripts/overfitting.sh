#!/usr/bin/env bash
# Accuracy over epochs: train on the base classes, test about ten checkpoints on base and new classes.
#
#   bash scripts/overfitting.sh TRAINER CFG DATASET SEED [SHOTS] [KEY VALUE ...]
#
# Output: output/overfitting/train_base/DATASET/shots_16/TRAINER/CFG/seed1 and
#         output/overfitting/test_{base,new}/DATASET/shots_16/TRAINER/CFG/seed1/epoch5
# DATA and OUTPUT name other folders than data and output in the checkout; a finished run is not done again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

set_up ""
exec "$PYTHON" "$ROOT/tools/step.py" overfitting "$@"
