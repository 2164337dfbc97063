#!/usr/bin/env bash
# Train and compare zero-shot CLIP, CoOp and MMTPA with 16 shots on the bundled data with the bundled toy model.
#
#   bash scripts/demo.sh [--fresh] [--data NAME] [--output FOLDER] [KEY VALUE ...]
#
# Finished runs with the same settings are kept, others an error; --fresh does them again. --data takes one of configs/datasets/ instead of the bundled
# ones. KEY VALUE pairs go to train.py, e.g. OPTIM.MAX_EPOCH 5.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

output="$ROOT/output/demo"
datasets=(handwritten_digits shapes)
fresh=False
while [[ "${1:-}" == --* ]]; do
    case "$1" in
        --fresh) fresh=True ;;
        --output)
            [[ -n "${2:-}" ]] || fail "--output needs a folder"
            [[ "$2" == /* ]] && output="$2" || output="$PWD/$2"
            shift
            ;;
        --data)
            [[ -f "$ROOT/configs/datasets/${2:-}.yaml" ]] || fail "--data needs a name in configs/datasets, not '${2:-}'"
            datasets=("$2")
            shift
            ;;
        *) fail "unknown option $1: there are --fresh, --data NAME and --output FOLDER" ;;
    esac
    shift
done

set_up ""
cd "$ROOT"
# Threads that spin while they wait make a busy machine many times slower.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
for dataset in "${datasets[@]}"; do
    for trainer in ZeroshotCLIP CoOp MMTPA; do
        folder="$output/$dataset/$trainer"
        printf '\n=== %s on %s, 16 shots\n' "$trainer" "$dataset"
        "$PYTHON" train.py --root data --seed 1 --trainer "$trainer" \
            --dataset-config-file "configs/datasets/$dataset.yaml" \
            --config-file "configs/trainers/$trainer/mini.yaml" \
            --output-dir "$folder" \
            DATASET.NUM_SHOTS 16 VERBOSE False TRAIN.OVERWRITE "$fresh" "$@"
    done
done
"$PYTHON" tools/report.py "$output"
