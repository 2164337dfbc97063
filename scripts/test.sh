#!/usr/bin/env bash
# Set up, then lint, check types and run the tests; arguments go to pytest: bash scripts/test.sh tests/clip -x
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

set_up test
cd "$ROOT"
echo "Lint"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
echo "Types"
"$PYTHON" -m mypy .
echo "Tests"
"$PYTHON" -m pytest -n 2 "$@"
