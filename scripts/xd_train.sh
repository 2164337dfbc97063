#!/usr/bin/env bash
# Train the source model of a transfer, on all classes of DATASET (imagenet, in the published protocols).
#
#   bash scripts/xd_train.sh TRAINER CFG DATASET SEED [SHOTS] [KEY VALUE ...]
#
# Output: output/DATASET/TRAINER/CFG_16shots/seed1, as of fewshot.sh
# DATA and OUTPUT name other folders than data and output in the checkout; a finished run is not done again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

set_up ""
exec "$PYTHON" "$ROOT/tools/step.py" xd_train "$@"
