"""What the file of an unfinished run holds, and which run it belongs to."""

import signal

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY, resume
from dassl.utils import load_checkpoint

from .interrupted import OPTIONS, Interrupt, assert_same, contents, run, signalled
from .plugin import Tiny, TinyNet, tiny_cfg


@pytest.fixture
def interrupted(root, tmp_path):
    """The folder of a run that ended in its third epoch."""

    def forward_backward(self, batch):
        if self.epoch == 2:
            raise Interrupt
        return plain(self, batch)

    plain, Tiny.forward_backward = Tiny.forward_backward, forward_backward
    try:
        with pytest.raises(Interrupt):
            run(tiny_cfg(root, tmp_path / "interrupted", *OPTIONS))
    finally:
        Tiny.forward_backward = plain
    return tmp_path / "interrupted"


def test_continue_in_another_folder(root, tmp_path, interrupted, capsys):
    run(tiny_cfg(root, tmp_path / "a", *OPTIONS))
    capsys.readouterr()
    best = (interrupted / "tiny" / "model-best.pth.tar").read_bytes()
    trainer = run(tiny_cfg(root, tmp_path / "b", *OPTIONS, "RESUME", str(interrupted)))
    out = capsys.readouterr().out
    assert f"Found checkpoint at {interrupted} (will resume training)\nPrevious epoch: 2\n" in out
    assert trainer.start_epoch == 2
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    del a["model.pth.tar-2"]
    assert_same(a, b)
    assert (interrupted / resume.FILE_NAME).exists()
    assert (interrupted / "tiny" / "model-best.pth.tar").read_bytes() == best


def test_file_holds_only_what_changed(interrupted):
    state = load_checkpoint(interrupted / resume.FILE_NAME)
    assert torch.load(interrupted / resume.FILE_NAME, weights_only=True)["epoch"] == 2
    net = TinyNet(2)
    fixed = {"pixel_scale", "stem.weight", "stem.bias"}
    assert set(state["models"]["tiny"]["left_out"]) == fixed
    assert set(state["models"]["tiny"]["state_dict"]) == set(net.state_dict()) - fixed


def test_without_the_file_dassls_checkpoints_serve(root, tmp_path, interrupted, capsys):
    (interrupted / resume.FILE_NAME).unlink()
    trainer = run(tiny_cfg(root, interrupted, *OPTIONS))
    assert trainer.start_epoch == 2
    assert "Loaded scheduler" in capsys.readouterr().out
    assert trainer.sched.last_epoch >= 1
    # The run has finished now: once more, only its result is computed.
    again = run(tiny_cfg(root, interrupted, *OPTIONS))
    assert (again.start_epoch, again.epoch) == (5, 4)


def test_another_runs_file_is_refused(root, tmp_path, interrupted):
    with pytest.raises(ValueError, match=r"resume\.pth\.tar is of .*\(SEED: 3 -> 4\)"):
        run(tiny_cfg(root, interrupted, *OPTIONS, "SEED", 4))
    with pytest.raises(ValueError, match=r"\(TRAINER\.NAME: Tiny -> TinyTeacher\)"):
        run(tiny_cfg(root, interrupted, *OPTIONS, "TRAINER.NAME", "TinyTeacher"))
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere to resume from"):
        run(tiny_cfg(root, tmp_path / "b", *OPTIONS, "RESUME", str(tmp_path / "nowhere")))


@pytest.mark.parametrize("content", [[1], {"state_dict": {}, "epoch": 2}, None])
def test_a_file_that_is_none_of_a_run_is_refused(root, interrupted, content):
    path = interrupted / resume.FILE_NAME
    if content is None:
        path.write_bytes(path.read_bytes()[:1000])
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=r"resume\.pth\.tar.*: remove it to begin anew$"):
        run(tiny_cfg(root, interrupted, *OPTIONS))


def test_a_file_of_other_settings_is_refused(root, interrupted):
    settings = ("SEED", 4, "OPTIM.LR", 0.1, "INPUT.SIZE", (24, 24), "OPTIM.MAX_EPOCH", 6)
    with pytest.raises(ValueError) as refused:
        run(tiny_cfg(root, interrupted, *OPTIONS, *settings))
    assert str(refused.value) == (
        f"{interrupted / resume.FILE_NAME} is of an unfinished run with other settings (SEED: 3 -> 4; "
        "INPUT.SIZE: (16, 16) -> (24, 24); OPTIM.LR: 0.05 -> 0.1; ...): "
        "choose another output folder, or begin anew with the file removed"
    )


def test_what_does_not_change_the_result_may_change(root, interrupted):
    settings = ("DATALOADER.NUM_WORKERS", 1, "TRAIN.PRINT_FREQ", 1, "TEST.PER_CLASS_RESULT", True)
    cfg = tiny_cfg(root, interrupted, *OPTIONS, *settings)
    cfg.OF_A_LATER_VERSION = True
    assert run(cfg).start_epoch == 2


def test_other_frozen_weights_are_refused(root, interrupted):
    class OtherStem(Tiny):
        def build_model(self):
            super().build_model()
            self.model.stem.weight.data += 1

    OtherStem.__name__ = "Tiny"
    original = TRAINER_REGISTRY.get("Tiny")
    TRAINER_REGISTRY.register(OtherStem, force=True)
    try:
        with pytest.raises(ValueError, match='other frozen weights of "tiny"'):
            run(tiny_cfg(root, interrupted, *OPTIONS))
    finally:
        TRAINER_REGISTRY.register(original, force=True)


# Of which run it is


def test_weights_beside_the_registered_models_are_compared(root, tmp_path, interrupted):
    """As of plugins, whose CLIP is an attribute of a network that is not registered."""

    class WithTeacher(Tiny):
        def build_model(self):
            super().build_model()
            self.clip = torch.nn.Linear(2, 2).requires_grad_(False)
            self.clip.weight.data.fill_(value)

    WithTeacher.__name__ = "Tiny"
    original, value = TRAINER_REGISTRY.get("Tiny"), 1.0
    TRAINER_REGISTRY.register(WithTeacher, force=True)
    try:
        cfg = tiny_cfg(root, tmp_path / "b", *OPTIONS)
        monkey = signalled(WithTeacher, signal.SIGINT, 1, 1)
        WithTeacher.forward_backward = monkey
        with pytest.raises(KeyboardInterrupt):
            run(cfg)
        value = 2.0
        with pytest.raises(
            ValueError, match=r"other weights or data \(weights beside the models: \d+ -> \d+\)"
        ):
            run(cfg)
        value = 1.0
        assert run(cfg).start_epoch == 1
    finally:
        TRAINER_REGISTRY.register(original, force=True)


def test_other_images_are_refused(root, tmp_path, interrupted):
    import shutil

    shutil.copytree(root / "stripes", tmp_path / "moved" / "stripes")
    moved = tiny_cfg(tmp_path / "moved", interrupted, *OPTIONS)
    next((tmp_path / "moved" / "stripes" / "train").iterdir()).unlink()
    with pytest.raises(ValueError, match=r"other weights or data \(training images: \w+ -> \w+"):
        run(moved)


def test_the_data_may_lie_elsewhere(root, tmp_path, interrupted):
    import shutil

    shutil.copytree(root / "stripes", tmp_path / "moved" / "stripes")
    assert run(tiny_cfg(tmp_path / "moved", interrupted, *OPTIONS)).start_epoch == 2
