#!/usr/bin/env bash
# Test a method that learns nothing: ZeroshotCLIP.
#
#   bash scripts/zeroshot.sh TRAINER CFG DATASET SEED [KEY VALUE ...]
#
# Output: output/TRAINER/CFG/DATASET
# DATA and OUTPUT name other folders than data and output in the checkout; a finished run is not done again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

set_up ""
exec "$PYTHON" "$ROOT/tools/step.py" zeroshot "$@"
