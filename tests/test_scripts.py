"""The scripts' own logic: which Python, which environment, when to install."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CANDIDATES = ("python", "python3", "python3.10", "python3.11", "python3.12", "python3.13")
# An interpreter that only pretends to install, notes that it was asked to, and does not load what it installed.
PYTHON = f"""#!/bin/sh
case "$*" in
    *"-m pip install"*) echo install >>"$INSTALLS"; exit "${{PIP_EXIT:-0}}" ;;
    *torchvision.ops*) exit "${{TORCHVISION_EXIT:-0}}" ;;
esac
exec "{sys.executable}" "$@"
"""
OLD_PYTHON = """#!/bin/sh
[ "$1" = -V ] && echo "Python 3.8.18" || exit 1
"""


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def checkout(root, tmp_path):
    """A folder with the scripts and setup.py alone, whose name needs quoting."""
    folder = tmp_path / "check out"
    shutil.copytree(root / "scripts", folder / "scripts")
    shutil.copy(root / "setup.py", folder)
    return folder


@pytest.fixture
def set_up(checkout, tmp_path):
    """Run set_up in an active environment; returns the process and how often it has installed so far."""
    write_program(tmp_path / "an env" / "bin" / "python", PYTHON)
    installs = tmp_path / "installs"

    def run(extra="", **variables):
        script = f'set -euo pipefail; source "$0/scripts/environment.sh"; set_up "{extra}"; echo "$PYTHON"'
        environment = {
            **os.environ,
            "VIRTUAL_ENV": str(tmp_path / "an env"),
            "INSTALLS": str(installs),
            **variables,
        }
        ran = subprocess.run(
            ["bash", "-c", script, str(checkout)], env=environment, capture_output=True, text=True
        )
        return ran, len(installs.read_text().split()) if installs.exists() else 0

    return run


def test_the_second_set_up_installs_nothing(set_up, tmp_path):
    first, installs = set_up()
    assert (first.returncode, installs) == (0, 1)
    assert first.stdout.splitlines()[-1] == str(tmp_path / "an env" / "bin" / "python")
    second, installs = set_up()
    assert (second.returncode, installs) == (0, 1)
    assert "Installing" not in second.stdout


def test_an_extra_is_an_install_of_its_own(set_up):
    assert set_up()[1] == 1
    assert set_up("test")[1] == 2
    assert set_up("test")[1] == 2


def test_an_install_with_an_extra_serves_without_it(set_up):
    assert set_up("test")[1] == 1
    assert set_up()[1] == 1


def test_new_dependencies_are_installed(set_up, checkout):
    set_up()
    with (checkout / "setup.py").open("a") as file:
        file.write("# a change\n")
    assert set_up()[1] == 2


def test_a_failed_install_is_repeated(set_up):
    failed, installs = set_up(PIP_EXIT="1")
    assert (failed.returncode, installs) == (1, 1)
    assert set_up()[1] == 2


def test_a_torchvision_that_does_not_fit_is_one_line(set_up):
    ran, installs = set_up(TORCHVISION_EXIT="1")
    assert (ran.returncode, installs) == (2, 1)
    assert ran.stderr.startswith("error: torch and torchvision in ")
    assert set_up()[1] == 2


def test_an_environment_without_python_is_one_line(set_up, tmp_path):
    ran, _ = set_up(VIRTUAL_ENV=str(tmp_path / "gone"))
    assert ran.returncode == 2
    assert ran.stderr == f"error: the active environment {tmp_path / 'gone'} has no bin/python\n"


def test_an_old_environment_is_one_line(set_up, tmp_path):
    write_program(tmp_path / "old" / "bin" / "python", OLD_PYTHON)
    ran, installs = set_up(VIRTUAL_ENV=str(tmp_path / "old"))
    assert (ran.returncode, installs) == (2, 0)
    assert ran.stderr.startswith("error: Python 3.10 or newer is needed, the environment ")
    assert ran.stderr.endswith("has Python 3.8.18\n")


def run_without_environment(checkout, path):
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    return subprocess.run(
        ["bash", str(checkout / "scripts" / "demo.sh")],
        env=environment | {"PATH": f"{path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )


def test_only_old_pythons_is_one_line(checkout, tmp_path):
    for name in CANDIDATES:
        write_program(tmp_path / "path" / name, OLD_PYTHON)
    ran = run_without_environment(checkout, tmp_path / "path")
    assert ran.returncode == 2
    assert ran.stderr == "error: Python 3.10 or newer is needed, found Python 3.8.18\n"
    assert not (checkout / ".venv").exists()


def test_a_python_without_venv_is_one_line(checkout, tmp_path):
    without = f'#!/bin/sh\ncase "$*" in *venv*) exit 1 ;; esac\nexec "{sys.executable}" "$@"\n'
    for name in CANDIDATES:
        write_program(tmp_path / "path" / name, without)
    ran = run_without_environment(checkout, tmp_path / "path")
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: python3 has no venv module")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quick"], "unknown option --quick: there are --fresh, --data NAME and --output FOLDER"),
        (["--data", "digits"], "--data needs a name in configs/datasets, not 'digits'"),
        (["--output"], "--output needs a folder"),
    ],
)
def test_wrong_options_of_the_demo_are_one_line(root, arguments, message):
    ran = subprocess.run(
        ["bash", str(root / "scripts" / "demo.sh"), *arguments], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (2, f"error: {message}\n")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing(root):
    scripts = [str(root / ".ci" / "run"), *map(str, (root / "scripts").rglob("*.sh"))]
    ran = subprocess.run(["shellcheck", "-x", *scripts], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
