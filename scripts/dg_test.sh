#!/usr/bin/env bash
# Domain generalisation: test the model that xd_train.sh has trained on SOURCE (imagenet) on a variant of it,
# DATASET: imagenetv2, imagenet_sketch, imagenet_a, imagenet_r; shapes_backgrounds, shapes_noise, shapes_sketch.
#
#   bash scripts/dg_test.sh TRAINER CFG DATASET SEED [SHOTS [SOURCE]] [KEY VALUE ...]
#
# Output: output/evaluation/TRAINER/CFG_16shots/DATASET/seed1, or output/evaluation_from_SOURCE/...
# DATA and OUTPUT name other folders than data and output in the checkout; a finished run is not done again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

set_up ""
exec "$PYTHON" "$ROOT/tools/step.py" dg_test "$@"
