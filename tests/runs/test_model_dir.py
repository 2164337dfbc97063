import pytest

from runs.model_dir import named_model


@pytest.fixture
def checkpoints(tmp_path):
    folder = tmp_path / "run" / "prompt_learner"
    folder.mkdir(parents=True)
    for name in ("model.pth.tar-5", "model-best.pth.tar", "copied.pth"):
        (folder / name).touch()
    return folder


def test_a_run_is_known_by_its_checkpoints(checkpoints):
    run = str(checkpoints.parent)
    assert named_model(run, 3)[:2] == (run, 3)
    assert named_model(str(checkpoints), None)[:2] == (run, None)
    assert named_model(str(checkpoints / "model.pth.tar-5"), None)[:2] == (run, 5)
    assert named_model(str(checkpoints / "model-best.pth.tar"), None)[:2] == (run, None)
    assert named_model("", None)[:2] == ("", None)
    assert named_model(str(checkpoints / "model.pth.tar-5"), 5)[:2] == (run, 5)
    with pytest.raises(ValueError, match="--load-epoch 3"):
        named_model(str(checkpoints / "model.pth.tar-5"), 3)


def test_what_lies_as_dassl_lays_it_out_is_loaded_by_its_run(checkpoints):
    run, file = str(checkpoints.parent), str(checkpoints / "model.pth.tar-5")
    assert named_model(file, None).to_load(["prompt_learner"]) == (run, 5)
    assert named_model(file, None).to_load(["model"]) == (file, 5)  # a folder of another name
    assert named_model(str(checkpoints), 5).to_load(["prompt_learner"]) == (run, 5)
    assert named_model(str(checkpoints), 5).to_load(["model"]) == (str(checkpoints), 5)
    assert named_model(run, 5).to_load(["model"]) == (run, 5)


def test_a_file_that_no_run_names_so_is_itself_and_not_the_last_of_its_folder(checkpoints):
    file = str(checkpoints / "copied.pth")
    assert named_model(file, None)[:2] == (file, None)
    assert named_model(file, None).to_load(["prompt_learner"]) == (file, None)
