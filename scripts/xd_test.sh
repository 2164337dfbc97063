#!/usr/bin/env bash
# Cross-data-set transfer: test the model that xd_train.sh has trained on SOURCE (imagenet) on DATASET.
#
#   bash scripts/xd_test.sh TRAINER CFG DATASET SEED [SHOTS [SOURCE]] [KEY VALUE ...]
#
# Output: output/evaluation/TRAINER/CFG_16shots/DATASET/seed1, or output/evaluation_from_SOURCE/...
# DATA and OUTPUT name other folders than data and output in the checkout; a finished run is not done again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

set_up ""
exec "$PYTHON" "$ROOT/tools/step.py" xd_test "$@"
