"""The first page of docs/transport.md does what it says."""

import re

import torch


def test_its_twenty_lines_run(root):
    text = (root / "docs" / "transport.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    assert sum(map(bool, code.splitlines())) <= 20
    names = {}
    exec(code, names)
    assert names["cost"].shape == names["distance"].shape == (8, 5, 1, 1)
    assert names["optimum"].shape == names["exact"].shape == (8, 5, 1, 1)
    assert names["plan"].shape == (8, 5, 1, 1, 20, 6)
    assert names["x"].grad is not None
    assert names["weights"].grad is not None
    assert (names["how"].mass < 1).all()
    assert torch.isfinite(names["mapped"]).all()
