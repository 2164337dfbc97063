import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from torch import nn

from dassl.utils import load_checkpoint, load_pretrained_weights, resume_from_checkpoint, save_checkpoint


def state(epoch=1, **more):
    return {"state_dict": nn.Linear(2, 3).state_dict(), "epoch": epoch, **more}


def test_layout_of_the_folder(tmp_path, capsys):
    folder = tmp_path / "prompt_learner"
    save_checkpoint(state(5), str(folder))
    save_checkpoint(state(7), folder, is_best=True)
    assert sorted(os.listdir(folder)) == [
        "checkpoint",
        "model-best.pth.tar",
        "model.pth.tar-5",
        "model.pth.tar-7",
    ]
    assert (folder / "checkpoint").read_text() == "model.pth.tar-7\n"
    assert (folder / "model-best.pth.tar").read_bytes() == (folder / "model.pth.tar-7").read_bytes()
    assert (
        f"Checkpoint saved to {folder}/model.pth.tar-7\nBest checkpoint saved to" in capsys.readouterr().out
    )
    save_checkpoint(state(8), folder, model_name="model-best.pth.tar")
    assert load_checkpoint(folder / "model-best.pth.tar")["epoch"] == 8
    assert (folder / "checkpoint").read_text() == "model-best.pth.tar\n"


def test_module_prefix_is_removed(tmp_path):
    save_checkpoint({"state_dict": {"module.w": torch.ones(1)}, "epoch": 1}, tmp_path)
    assert list(load_checkpoint(tmp_path / "model.pth.tar-1")["state_dict"]) == ["w"]


def test_numpy_scalars_in_a_checkpoint(tmp_path):
    save_checkpoint(state(val_result=np.float64(81.25)), tmp_path)
    assert load_checkpoint(tmp_path / "model.pth.tar-1")["val_result"] == 81.25


def test_resume_restores_model_optimiser_and_scheduler(tmp_path):
    def build():
        torch.manual_seed(len(os.listdir(tmp_path)))
        model = nn.Linear(2, 3)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)

    def step(model, optimizer, scheduler):
        optimizer.zero_grad()
        model(torch.ones(4, 2)).square().sum().backward()
        optimizer.step()
        scheduler.step()

    parts = build()
    step(*parts)
    saved = dict(zip(("state_dict", "optimizer", "scheduler"), (part.state_dict() for part in parts)))
    save_checkpoint({**saved, "epoch": 1}, tmp_path)
    resumed = build()
    assert not torch.equal(resumed[0].weight, parts[0].weight)
    assert resume_from_checkpoint(tmp_path, *resumed) == 1
    step(*parts)
    step(*resumed)
    assert torch.equal(resumed[0].weight, parts[0].weight)
    assert resumed[2].get_last_lr() == parts[2].get_last_lr()


def test_resume_from_an_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="No checkpoint in"):
        resume_from_checkpoint(tmp_path, nn.Linear(2, 3))


def test_pretrained_weights_that_fit_are_taken(tmp_path, capsys):
    weights = {
        "module.0.weight": torch.full((2, 2), 7.0),
        "1.weight": torch.zeros(9, 9),
        "head": torch.zeros(1),
    }
    torch.save(weights, tmp_path / "w.pth")
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    load_pretrained_weights(model, tmp_path / "w.pth")
    assert (model[0].weight == 7).all()
    out = capsys.readouterr().out
    assert "Successfully loaded" in out
    assert "['1.weight', 'head']" in out
    torch.save({"state_dict": {"head": torch.zeros(1)}}, tmp_path / "none.pth")
    with pytest.warns(UserWarning, match="cannot be loaded"):
        load_pretrained_weights(model, tmp_path / "none.pth")


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'File is not found at ".*gone"'):
        load_checkpoint(tmp_path / "gone")
    with pytest.raises(ValueError, match="File path is None"):
        load_checkpoint(None)


def test_truncated_and_foreign_files_are_named_in_one_line(tmp_path):
    save_checkpoint(state(optimizer=torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)), tmp_path)
    whole = (tmp_path / "model.pth.tar-1").read_bytes()
    contents = [whole[:length] for length in (0, 1, 30, len(whole) // 2, len(whole) - 10)]
    for content in [*contents, b"hello", b"\x80\x02}q\x00", b"PK\x03\x04", b"{}", os.urandom(500)]:
        (tmp_path / "bad.pth").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.pth\" is not a checkpoint, or damaged") as caught:
            load_checkpoint(tmp_path / "bad.pth")
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="is not a checkpoint"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("trainer", ["CoOp", "CoCoOp", "KgCoOp"])
def test_checkpoints_written_by_dassl(shared, trainer):
    path = shared / "parity" / "checkpoints" / trainer / "prompt_learner" / "model.pth.tar-2"
    checkpoint = load_checkpoint(path)
    assert checkpoint["epoch"] == 2
    ctx = checkpoint["state_dict"]["ctx"]
    assert ctx.shape[-1] == 512
    assert ctx.isfinite().all()
    assert ctx.float().abs().sum() > 0
    assert checkpoint["optimizer"]["param_groups"][0]["momentum"] == 0.9
    assert type(checkpoint["scheduler"]["successor"]).__name__ == "CosineAnnealingLR"


def test_a_kill_at_any_moment_leaves_a_readable_checkpoint(tmp_path):
    program = """
        import sys, torch
        from dassl.utils import save_checkpoint
        for epoch in range(1, 10**6):
            weight = torch.full((1000, 1000), float(epoch))
            save_checkpoint({"state_dict": {"w": weight}, "epoch": epoch % 3}, sys.argv[1], is_best=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    for wait in (0.0, 0.033):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for _ in range(8):
            process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for name in [(tmp_path / "checkpoint").read_text().strip(), "model-best.pth.tar"]:
            weight = load_checkpoint(tmp_path / name)["state_dict"]["w"]
            assert weight.unique().numel() == 1
    # What a killed save leaves behind goes with the next one.
    (tmp_path / ".model.pth.tar-1.0123abcd.tmp").write_bytes(b"half")
    save_checkpoint(state(4), tmp_path)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
