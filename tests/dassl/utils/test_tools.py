import hashlib
import random
import warnings

import numpy as np
import pytest
import torch

from dassl import utils


def test_exports_are_those_of_dassl_that_plugins_use():
    names = (
        "mkdir_if_missing check_isfile read_json write_json set_random_seed download_url read_image collect_env_info "
        "listdir_nohidden get_most_similar_str_to_a_from_b check_availability tolist_if_not get_file_md5 Logger "
        "setup_logger AverageMeter MetricMeter Registry save_checkpoint load_checkpoint resume_from_checkpoint "
        "count_num_param load_pretrained_weights"
    )
    assert [name for name in names.split() if not hasattr(utils, name)] == []


def test_json_round_trip_makes_folders(tmp_path):
    path = tmp_path / "a" / "b.json"
    utils.write_json({"é": [1, 2]}, path)
    assert utils.read_json(path) == {"é": [1, 2]}


def test_broken_json_is_named(tmp_path):
    path = tmp_path / "split.json"
    path.write_text('{"train": [')
    with pytest.raises(ValueError, match=r"split\.json\" is not valid JSON") as caught:
        utils.read_json(path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r'Cannot create the folder ".*file/sub"'):
        utils.mkdir_if_missing(tmp_path / "file" / "sub")


def test_hidden_names_are_left_out(tmp_path):
    for name in ("b", "a", ".c"):
        (tmp_path / name).touch()
    assert utils.listdir_nohidden(tmp_path, sort=True) == ["a", "b"]


def test_check_isfile_warns(tmp_path):
    with pytest.warns(UserWarning, match="No file found"):
        assert not utils.check_isfile(tmp_path / "missing")
    (tmp_path / "there").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert utils.check_isfile(tmp_path / "there")


def test_md5(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert utils.get_file_md5(tmp_path / "a") == hashlib.md5(b"x" * 3_000_000).hexdigest()


def test_one_seed_for_all():
    def draw():
        utils.set_random_seed(3)
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    assert draw() == draw()


def test_tolist_if_not():
    assert utils.tolist_if_not((1, 2)) == [(1, 2)]
    assert utils.tolist_if_not([1]) == [1]


def test_a_failed_download_says_where_to_put_the_file(tmp_path):
    with pytest.raises(OSError, match=r'put it at ".*x\.zip"') as caught:
        utils.download_url("http://127.0.0.1:9/x.zip", tmp_path / "new" / "x.zip")
    assert "\n" not in str(caught.value)


def test_environment_names_torch_and_pillow():
    info = utils.collect_env_info()
    assert torch.__version__ in info
    assert "Pillow (" in info
