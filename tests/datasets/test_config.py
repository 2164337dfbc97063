from dassl.config import get_cfg_default
from datasets.base import SplitDataset
from datasets.config import extend_cfg
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
