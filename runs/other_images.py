"""Images of other classes than a run's (`--ood FOLDER`, TEST.OOD), of which its model should be less sure."""

import os
from typing import Any

from dassl.data import build_data_loader
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from datasets.images_in import images_in
from foundation.errors import MissingFile, WrongInput
from foundation.keys.of_all_runs import of
from runs import DASSL

KEY = "--ood (TEST.OOD)"


def loader_of_others(trainer: Any) -> Any:
    """A loader of all images below the folder; None where none is given.

    Raises:
        ValueError, FileNotFoundError: there is no such folder, there are no images in it, some of them are test
            images, or the trainer does not say its logit scale.
    """
    cfg = trainer.cfg
    folder = of(cfg, "TEST.OOD")
    if not folder:
        return None
    if DASSL:
        raise WrongInput(f"{KEY} is {folder}: the original Dassl tests no other images, unset DASSL_PATH")
    if trainer.logit_scale is None:
        raise WrongInput(
            f"{KEY} is {folder}: {cfg.TRAINER.NAME} does not say its logit_scale, which cosines come from"
        )
    try:
        paths = images_in(folder)
    except FileNotFoundError as error:
        raise MissingFile(f"{KEY}: {error}") from None
    except ValueError as error:
        raise WrongInput(f"{KEY}: {error}") from None
    tested = {os.path.realpath(item.impath) for item in trainer.dm.dataset.test}
    if both := sum(os.path.realpath(path) in tested for path in paths):
        raise WrongInput(f"{KEY}: {both:,} of the {len(paths):,} images in {folder} are test images")
    return build_data_loader(
        cfg,
        data_source=[Datum(path) for path in paths],
        batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
        tfm=build_transform(cfg, is_train=False),
        is_train=False,
    )
