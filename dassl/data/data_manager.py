"""The data set of a run and its loaders."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from yacs.config import CfgNode

from dassl.utils import collectives

from .dataset_wrapper import DatasetWrapper
from .datasets import build_dataset
from .loader import EpochLoader
from .samplers import build_sampler
from .transforms import build_transform

__all__ = ["DataManager", "DatasetWrapper", "build_data_loader"]

Transform = Callable | Sequence[Callable] | None


def build_data_loader(
    cfg: CfgNode,
    sampler_type: str = "SequentialSampler",
    data_source: Any = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm: Transform = None,
    is_train: bool = True,
    dataset_wrapper: Callable[..., Any] | None = None,
) -> EpochLoader:
    """A loader of batches from a list of Datum.

    Args:
        cfg: the whole config.
        sampler_type: see :func:`dassl.data.samplers.build_sampler`, as for ``n_domain`` and ``n_ins``.
        data_source: a list of Datum.
        batch_size: images in a batch; in training, a smaller last batch is dropped.
        tfm: see :class:`DatasetWrapper`.
        is_train: for training or for evaluation.
        dataset_wrapper: in place of :class:`DatasetWrapper`, called in the same way.

    Raises:
        ValueError: ``data_source`` is empty.
    """
    if not data_source:
        raise ValueError(f"The data set {cfg.DATASET.NAME} has no images for one of its loaders")
    if is_train and collectives.count() > min(batch_size, len(data_source)):
        raise ValueError(
            f"{collectives.count()} processes cannot share batches of {min(batch_size, len(data_source))} images "
            "(DATALOADER.TRAIN_X.BATCH_SIZE): at most one process per image"
        )
    sampler = build_sampler(
        sampler_type, cfg=cfg, data_source=data_source, batch_size=batch_size, n_domain=n_domain, n_ins=n_ins
    )
    dataset = (dataset_wrapper or DatasetWrapper)(cfg, data_source, transform=tfm, is_train=is_train)
    views = len(tfm) if isinstance(tfm, (list, tuple)) else 1
    views = views * cfg.DATALOADER.K_TRANSFORMS + cfg.DATALOADER.RETURN_IMG0
    return EpochLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
        image_shape=(3, *cfg.INPUT.SIZE),
        views=views,
        whole_batches=not is_train,
    )


class DataManager:
    """Builds the data set that the config names, and its loaders.

    Attributes: ``dataset``, ``train_loader_x``, ``train_loader_u`` and ``val_loader`` (None where the data
    set has no such images), ``test_loader``, ``num_classes``, ``num_source_domains``, ``lab2cname``.

    Args:
        cfg: the whole config.
        custom_tfm_train: in place of the config's transform; several give several views.
        custom_tfm_test: the same for evaluation.
        dataset_wrapper: in place of :class:`DatasetWrapper`.
    """

    def __init__(
        self,
        cfg: CfgNode,
        custom_tfm_train: Transform = None,
        custom_tfm_test: Transform = None,
        dataset_wrapper: Callable[..., Any] | None = None,
    ):
        check_numbers(cfg.DATALOADER)
        dataset = build_dataset(cfg)

        tfm_train, tfm_test = custom_tfm_train, custom_tfm_test
        if tfm_train is None:
            tfm_train = build_transform(cfg, is_train=True)
        else:
            print("* Using custom transform for training")
        if tfm_test is None:
            tfm_test = build_transform(cfg, is_train=False)
        else:
            print("* Using custom transform for testing")

        def training(data_source: Any, options: CfgNode) -> EpochLoader:
            return build_data_loader(
                cfg,
                sampler_type=options.SAMPLER,
                data_source=data_source,
                batch_size=options.BATCH_SIZE,
                n_domain=options.N_DOMAIN,
                n_ins=options.N_INS,
                tfm=tfm_train,
                is_train=True,
                dataset_wrapper=dataset_wrapper,
            )

        def evaluation(data_source: Any) -> EpochLoader:
            return build_data_loader(
                cfg,
                sampler_type=cfg.DATALOADER.TEST.SAMPLER,
                data_source=data_source,
                batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
                tfm=tfm_test,
                is_train=False,
                dataset_wrapper=dataset_wrapper,
            )

        options = cfg.DATALOADER
        self.train_loader_x = training(dataset.train_x, options.TRAIN_X)
        self.train_loader_u = None
        if dataset.train_u:
            same = options.TRAIN_U.SAME_AS_X
            self.train_loader_u = training(dataset.train_u, options.TRAIN_X if same else options.TRAIN_U)
        self.val_loader = evaluation(dataset.val) if dataset.val else None
        self.test_loader = evaluation(dataset.test)

        self.dataset = dataset
        self._num_classes = dataset.num_classes
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self._lab2cname = dataset.lab2cname
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @property
    def num_classes(self) -> int:
        return self._num_classes

    @property
    def num_source_domains(self) -> int:
        return self._num_source_domains

    @property
    def lab2cname(self) -> dict[int, str]:
        return self._lab2cname

    def show_dataset_summary(self, cfg: CfgNode) -> None:
        """Print the data set's name, domains, number of classes and numbers of images."""
        rows = [("Dataset", cfg.DATASET.NAME)]
        if cfg.DATASET.SOURCE_DOMAINS:
            rows.append(("Source", str(cfg.DATASET.SOURCE_DOMAINS)))
        if cfg.DATASET.TARGET_DOMAINS:
            rows.append(("Target", str(cfg.DATASET.TARGET_DOMAINS)))
        rows.append(("# classes", f"{self.num_classes:,}"))
        rows.append(("# train_x", f"{len(self.dataset.train_x):,}"))
        if self.dataset.train_u:
            rows.append(("# train_u", f"{len(self.dataset.train_u):,}"))
        if self.dataset.val:
            rows.append(("# val", f"{len(self.dataset.val):,}"))
        rows.append(("# test", f"{len(self.dataset.test):,}"))
        first, second = (max(map(len, column)) for column in zip(*rows))
        rule = f"{'-' * first}  {'-' * second}"
        print("\n".join([rule, *(f"{name:<{first}}  {value}" for name, value in rows), rule]))


def check_numbers(options: CfgNode) -> None:
    """Raise ValueError for a number of workers or of images in a batch that no loader can have."""
    least = {"NUM_WORKERS": 0, "TRAIN_X.BATCH_SIZE": 1, "TRAIN_U.BATCH_SIZE": 1, "TEST.BATCH_SIZE": 1}
    for name, minimum in least.items():
        section, _, last = name.rpartition(".")
        value = (options[section] if section else options)[last]
        if value < minimum:
            raise ValueError(f"DATALOADER.{name} is {value}, {minimum} or more is needed")
