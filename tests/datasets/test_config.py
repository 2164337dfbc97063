import pytest

from dassl.config import get_cfg_default
from datasets.base import SplitDataset
from datasets.config import extend_cfg, reading_options
from tests.datasets.layouts import make_split


def test_keys_of_coop_and_of_the_data_sets_are_declared() -> None:
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.merge_from_list(
        ["DATASET.SUBSAMPLE_CLASSES", "base", "DATASET.IMAGE_FOLDER.TEMPLATE", "an x-ray of {}."]
    )
    assert cfg.DATASET.SUBSAMPLE_CLASSES == "base"
    assert cfg.DATASET.IMAGE_FOLDER.TEMPLATE == "an x-ray of {}."


def test_a_config_without_them_means_all_classes(tmp_path) -> None:
    class Empty(SplitDataset):
        dataset_dir = "empty"
        lists_folders = True

        def read_split(self):
            return make_split()._replace(
                train=[], val=[], test=[i._replace(path="1.jpg") for i in make_split().test]
            )

    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "1.jpg").touch()
    cfg = get_cfg_default()
    cfg.DATASET.ROOT = str(tmp_path)
    assert Empty(cfg).num_classes == 5


def test_how_images_are_read_is_refused_where_the_engine_does_not_know_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cfg = get_cfg_default()
    assert reading_options(cfg) == {}
    extend_cfg(cfg)
    assert reading_options(cfg) == {}
    cfg.INPUT.EXIF, cfg.INPUT.WHITE = True, 255.0
    assert reading_options(cfg) == {"exif": True, "white": 255.0}
    monkeypatch.setattr("datasets.config.read_image", lambda path: None)  # as the original Dassl's
    with pytest.raises(ValueError, match=r"INPUT.EXIF and INPUT.WHITE: the original Dassl takes no notice"):
        reading_options(cfg)
