"""A method's trainer that evaluates and needs no data set: class names and template are given to it."""

from typing import Any

from yacs.config import CfgNode

from .base import PromptTrainer
from .class_names import Classes


def without_data(method: type[PromptTrainer], cfg: CfgNode, classes: Classes) -> Any:
    """A trainer whose model is built as in a run, for ``classes``; it has no loaders.

    Raises:
        ValueError, OSError: as when a run is built.
    """

    def build_data_loader(self: Any) -> None:
        self.train_loader_x = self.train_loader_u = self.val_loader = self.test_loader = None
        self.num_classes, self.num_source_domains = len(classes.names), 0
        self.lab2cname, self.classnames = dict(enumerate(classes.names)), classes.names

    # of the method's own name, which checkpoints and messages tell
    given = {"build_data_loader": build_data_loader, "classes": lambda self: classes}
    return type(method.__name__, (method,), given)(cfg)
