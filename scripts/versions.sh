#!/usr/bin/env bash
# Run the fast part of the tests on the ends of the declared range of versions, each in an environment of its own.
#
#   bash scripts/versions.sh [NAME ...]      names are those below; all
#
# An environment takes some 7 GB in build/versions/NAME while its tests run. It is removed after them, but for one
# whose tests failed, in which they can be tried again. Where its Python is not to be had, it is passed and named. Exit
# code 1 where tests failed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

# name, Python, packages; "floors" are the oldest versions that setup.py allows
declare -A pythons=([oldest]=3.10 [images]=3.12 [newest]=3.13 [debian]=/usr/bin/python3)
declare -A packages=(
    [oldest]=floors
    # What GPU images come with at the end of 2026, with Triton 3.6, whose interpreter newer NumPys break.
    [images]="torch==2.11.* torchvision==0.26.* numpy<2.4"
    [newest]=""
    [debian]=""
)
fast=(tests/alignment tests/clip tests/dassl tests/datasets tests/foundation tests/runs tests/tools/preparing tests/trainers)

python_of() {
    if [[ "$1" == /* ]]; then
        [[ -x "$1" ]] && printf '%s\n' "$1"
    elif "python$1" -c '' 2>/dev/null; then
        command -v "python$1"
    else # pyenv keeps those that are not chosen out of the way
        printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python | while read -r found; do
            [[ -x "$found" ]] && printf '%s\n' "$found" && break
        done
    fi
}

# The requirements with their floors in place of their ranges.
floors() {
    grep -oE '^ +"[A-Za-z_-]+>=[0-9.]+"' "$ROOT/setup.py" | tr -d ' "' | sed 's/>=/==/' | sort -u
}

names=("$@")
((${#names[@]})) || names=(oldest images newest debian)
failed=()
for name in "${names[@]}"; do
    [[ -v "pythons[$name]" ]] || fail "$name is unknown, choose from: ${!pythons[*]}"
    python="$(python_of "${pythons[$name]}" || true)"
    if [[ -z "$python" ]]; then
        echo "$name: passed over, there is no Python ${pythons[$name]} here"
        continue
    fi
    environment="$ROOT/build/versions/$name"
    mkdir -p "$environment"
    "$python" -m venv --clear "$environment"
    constraint="$environment/constraints.txt"
    if [[ "${packages[$name]}" == floors ]]; then
        floors >"$constraint"
    else
        tr ' ' '\n' <<<"${packages[$name]}" >"$constraint"
    fi
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$ROOT[test]" \
        --constraint "$constraint"
    echo "$name: $("$environment/bin/python" -V), $("$environment/bin/python" -m pip freeze 2>/dev/null |
        grep -E '^(torch|torchvision|triton|open_clip_torch|numpy)==' | tr '\n' ' ')"
    if (cd "$ROOT" && "$environment/bin/python" -m pytest -n 2 -q "${fast[@]}"); then
        rm -rf -- "$environment"
    else
        failed+=("$name")
    fi
done
((${#failed[@]} == 0)) || {
    echo "failed: ${failed[*]}"
    exit 1
}
