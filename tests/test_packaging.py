"""What an install would put into somebody's environment, and what the checkout must not hold."""

import re
import subprocess
import sys
from importlib import metadata

import pytest


@pytest.fixture(scope="module")
def tracked(root):
    """The checkout's tracked text files."""
    ran = subprocess.run(["git", "-C", str(root), "ls-files"], capture_output=True, text=True)
    if ran.returncode:
        pytest.skip("not a git checkout")
    texts = {}
    for name in ran.stdout.splitlines():
        if (root / name).is_file():
            data = (root / name).read_bytes()
            if b"\0" not in data:
                texts[name] = data.decode()
    return texts


def test_an_install_makes_nothing_importable(root, tmp_path):
    """`import datasets` elsewhere must not find ours."""
    try:
        metadata.distribution("mmprompt")
    except metadata.PackageNotFoundError:
        pytest.skip("the project is not installed here")
    names = [p.name for p in root.iterdir() if (p / "__init__.py").is_file()] + ["train", "mmprompt"]
    code = (
        "import sys; from importlib.util import find_spec;"
        "specs = filter(None, map(find_spec, sys.argv[2:]));"
        "print(*[s.name for s in specs if (s.origin or '').startswith(sys.argv[1])])"
    )
    command = [sys.executable, "-I", "-c", code, str(root), *names]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_tools_run_from_any_folder(root, tmp_path):
    command = [sys.executable, str(root / "tools" / "report.py"), "nowhere"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (2, "error: there is no folder nowhere\n")


def test_no_file_names_a_place_on_somebodys_machine(root, tracked):
    place = re.compile(r"(?<![\w.$}])/(home|Users|root|tmp|mnt|work)/[\w.-]+")
    # Tests have invented places, of other people's files.
    found = {n: place.findall(text) for n, text in tracked.items() if not n.startswith("tests/")}
    assert not {name: places for name, places in found.items() if places}
    assert not [name for name, text in tracked.items() if f"{root}/" in text]


def test_no_file_names_a_package_index(tracked):
    option = "--" + "index-url", "--" + "extra-index-url", "--" + "find-links"
    assert not [name for name, text in tracked.items() if any(o in text for o in option)]
