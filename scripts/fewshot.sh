#!/usr/bin/env bash
# Few-shot learning: train on SHOTS images of each class (16), test on all test images.
#
#   bash scripts/fewshot.sh TRAINER CFG DATASET SEED [SHOTS] [KEY VALUE ...]
#
# Output: output/DATASET/TRAINER/CFG_16shots/seed1
# DATA and OUTPUT name other folders than data and output in the checkout; a finished run is not done again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

set_up ""
exec "$PYTHON" "$ROOT/tools/step.py" fewshot "$@"
