# shellcheck shell=bash
# Sourced by the other scripts. ROOT is the checkout; `set_up EXTRA` sets PYTHON to an interpreter that has the
# project's dependencies and those of EXTRA (may be empty): of the active environment, or else of .venv in the checkout, which is made when missing.

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 2
}

# Print a Python that can make an environment.
find_python() {
    local candidate found=""
    for candidate in python3 python python3.13 python3.12 python3.11 python3.10; do
        command -v "$candidate" >/dev/null || continue
        found="${found:-$("$candidate" -V 2>&1 || true)}"
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            "$candidate" -c 'import venv, ensurepip' 2>/dev/null ||
                fail "$candidate has no venv module (Debian and Ubuntu: apt install python3-venv)"
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "Python 3.10 or newer is needed, found ${found:-none}"
}

# Find or make the environment, and install the dependencies unless it has them already.
set_up() {
    local extra="$1" environment="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}" base stamp installed key
    if [[ -z "$environment" ]]; then
        environment="$ROOT/.venv"
        # An environment whose making was cut short has no working pip.
        if ! "$environment/bin/python" -m pip --version >/dev/null 2>&1; then
            base="$(find_python)"
            echo "Making a virtual environment in $environment"
            "$base" -m venv --clear "$environment"
        fi
    fi
    PYTHON="$environment/bin/python"
    [[ -x "$PYTHON" ]] || fail "the active environment $environment has no bin/python"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "Python 3.10 or newer is needed, the environment $environment has $("$PYTHON" -V)"

    stamp="$environment/.mmprompt-installed${extra:+-$extra}"
    key="$("$PYTHON" -c 'import hashlib, pathlib, sys
print(hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes() + sys.version.encode()).hexdigest())' "$ROOT/setup.py")"
    # An install with an extra serves without it, too.
    for installed in "$stamp"*; do
        [[ -f "$installed" && "$(<"$installed")" == "$key" ]] && return
    done

    echo "Installing the dependencies into $environment (some gigabytes: this takes minutes, once)"
    local -a quiet=()
    [[ -t 1 ]] || quiet=(--quiet)
    "$PYTHON" -m pip install ${quiet[@]+"${quiet[@]}"} --disable-pip-version-check --editable "$ROOT${extra:+[$extra]}"
    "$PYTHON" -c 'import torchvision; torchvision.ops.nms' 2>/dev/null ||
        fail "torch and torchvision in $environment do not fit each other: remove both there and run this again"
    printf '%s\n' "$key" >"$stamp"
}
