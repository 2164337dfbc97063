"""Where the score of an image depends on the others of its batch, that is said and is part of what run it is."""

import contextlib
import io

import pytest

from dassl.engine import build_trainer
from foundation import identity
from tests.trainers.harness import METHODS, make_cfg

FLAT = ("TRAINER.MMTPA.HIERARCHICAL", False)
CASES = [
    *((name, (), name == "PLOT") for name in METHODS if name not in ("MMTPA", "ZeroshotCLIP2")),
    ("SOTGLP", ("TRAINER.SOTGLP.VARIANT", "release"), True),
    ("MMTPA", FLAT, False),
    ("MMTPA", (*FLAT, "TRAINER.MMTPA.VARIANT", "release"), True),
]


@pytest.mark.parametrize(("method", "options", "together"), CASES)
def test_methods_that_score_a_batch_together_say_so(method, options, together, data_root, tmp_path):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        trainer = build_trainer(make_cfg(method, data_root, tmp_path, *options, "TEST.CLASS_CHUNK", 4))
    assert identity.scores_batches(trainer) == together
    assert ("processes" in identity.inputs(trainer)) == together
    line = "results depend on DATALOADER.TEST.BATCH_SIZE (200), TEST.CLASS_CHUNK (4), in training also on the number"
    assert (line in said.getvalue()) == together
    if together:
        other = {**trainer.cfg, "TEST": {**trainer.cfg.TEST, "CLASS_CHUNK": 2}}
        assert identity.differences(trainer.cfg, other, of_a_batch=True) == ["TEST.CLASS_CHUNK: 4 -> 2"]
