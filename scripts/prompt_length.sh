#!/usr/bin/env bash
# Accuracy over prompt length: train and test with N_CTX context tokens in each tower that has any.
#
#   bash scripts/prompt_length.sh TRAINER CFG DATASET SEED N_CTX [SHOTS] [KEY VALUE ...]
#
# Output: output/prompt_length/DATASET/shots_16/TRAINER/CFG/nctx4/seed1
# DATA and OUTPUT name other folders than data and output in the checkout; a finished run is not done again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

set_up ""
exec "$PYTHON" "$ROOT/tools/step.py" prompt_length "$@"
