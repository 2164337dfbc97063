import gc
import subprocess
import sys

import pytest

from runs.importing import importing


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_waits_for_the_end_of_the_imports(collects):
    try:
        (gc.enable if collects else gc.disable)()
        with importing():
            assert not gc.isenabled()
        assert gc.isenabled() == collects
        with pytest.raises(SystemExit) as end, importing():
            raise FileNotFoundError(2, "No such file or directory", "weights.pt")
        assert end.value.code == 2
        assert gc.isenabled() == collects
    finally:
        gc.enable()


def test_a_program_that_ends_looks_through_nothing(root):
    """What was registered first is called last."""
    code = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 1000, len(gc.get_objects()) < 100))
from runs.importing import importing
with importing():
    import json
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "True"]
