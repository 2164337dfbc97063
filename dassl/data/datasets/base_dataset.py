"""An image of a data set, and the base of a data set."""

import os
import random
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from dassl.utils import download_url

__all__ = ["DatasetBase", "Datum"]


class Datum:
    """An image file with its class label, its domain label and its class name.

    Raises:
        FileNotFoundError: there is no such file.
    """

    def __init__(self, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""):
        if not os.path.isfile(impath):
            raise FileNotFoundError(f'No image file at "{impath}"')
        self._impath = impath
        self._label = label
        self._domain = domain
        self._classname = classname

    @property
    def impath(self) -> str:
        return self._impath

    @property
    def label(self) -> int:
        return self._label

    @property
    def domain(self) -> int:
        return self._domain

    @property
    def classname(self) -> str:
        return self._classname


class DatasetBase:
    """Lists of Datum for training and evaluation.

    Args:
        train_x: labelled training images; its labels and class names are those of the data set.
        train_u: training images used without their labels.
        val: validation images.
        test: test images.
    """

    dataset_dir = ""  # its folder below DATASET.ROOT
    domains: list[str] = []

    def __init__(
        self,
        train_x: list[Datum] | None = None,
        train_u: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
    ):
        self._train_x = train_x
        self._train_u = train_u
        self._val = val
        self._test = test
        self._num_classes = self.get_num_classes(train_x)
        self._lab2cname, self._classnames = self.get_lab2cname(train_x)

    @property
    def train_x(self) -> Any:
        return self._train_x

    @property
    def train_u(self) -> Any:
        return self._train_u

    @property
    def val(self) -> Any:
        return self._val

    @property
    def test(self) -> Any:
        return self._test

    @property
    def lab2cname(self) -> dict[int, str]:
        return self._lab2cname

    @property
    def classnames(self) -> list[str]:
        """Class names in the order of their labels."""
        return self._classnames

    @property
    def num_classes(self) -> int:
        return self._num_classes

    @staticmethod
    def get_num_classes(data_source: Iterable[Datum] | None) -> int:
        """The largest label plus one."""
        labels = [item.label for item in data_source or ()]
        if not labels:
            raise ValueError("The data set has no labelled training images (train_x is empty)")
        return max(labels) + 1

    @staticmethod
    def get_lab2cname(data_source: Iterable[Datum] | None) -> tuple[dict[int, str], list[str]]:
        """The class name of each label, and the class names in the order of their labels."""
        names = {item.label: item.classname for item in data_source or ()}
        mapping = dict(sorted(names.items()))
        return mapping, list(mapping.values())

    def check_input_domains(self, source_domains: Iterable[str], target_domains: Iterable[str]) -> None:
        """Raise a ValueError where a domain is not one of ``self.domains``."""
        self.is_input_domain_valid(source_domains)
        self.is_input_domain_valid(target_domains)

    def is_input_domain_valid(self, input_domains: Iterable[str]) -> None:
        for domain in input_domains:
            if domain not in self.domains:
                raise ValueError(f"Input domain must belong to {self.domains}, but got [{domain}]")

    def download_data(self, url: str, dst: str, from_gdrive: bool = True) -> None:
        """Download an archive (tar or zip) to the file ``dst`` and unpack it beside it.

        ``from_gdrive`` is there for callers that give it: any address is taken.
        """
        download_url(url, dst)
        folder = os.path.dirname(dst)
        print("Extracting file ...")
        if zipfile.is_zipfile(dst):
            with zipfile.ZipFile(dst) as archive:
                archive.extractall(folder)
        else:
            with tarfile.open(dst) as archive:
                if hasattr(tarfile, "data_filter"):
                    archive.extractall(folder, filter="data")
                else:  # Python 3.11.3 and older, Debian 12's own among them
                    archive.extractall(folder, _inside(archive, folder))
        print(f"File extracted to {folder}")

    def generate_fewshot_dataset(
        self, *data_sources: list[Datum], num_shots: int = -1, repeat: bool = False
    ) -> Any:
        """Draw ``num_shots`` images of each class, with Python's random numbers.

        Args:
            data_sources: lists of Datum.
            num_shots: images per class; all where it is below 1.
            repeat: draw with replacement from a class that has fewer; otherwise take all it has.

        Returns:
            A list of Datum, or a list of such lists where there are several sources.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        print(f"Creating a {num_shots}-shot dataset")
        output = []
        for data_source in data_sources:
            drawn: list[Datum] = []
            for items in self.split_dataset_by_label(data_source).values():
                if len(items) >= num_shots:
                    drawn.extend(random.sample(items, num_shots))
                else:
                    drawn.extend(random.choices(items, k=num_shots) if repeat else items)
            output.append(drawn)
        return output[0] if len(output) == 1 else output

    def split_dataset_by_label(self, data_source: Iterable[Datum]) -> dict[int, list[Datum]]:
        """The images of each label."""
        groups = defaultdict(list)
        for item in data_source:
            groups[item.label].append(item)
        return groups

    def split_dataset_by_domain(self, data_source: Iterable[Datum]) -> dict[int, list[Datum]]:
        """The images of each domain."""
        groups = defaultdict(list)
        for item in data_source:
            groups[item.domain].append(item)
        return groups


def _inside(archive: tarfile.TarFile, folder: str) -> list[tarfile.TarInfo]:
    """The members, all files and folders in ``folder``: what Python's filter "data" lets through, but for links."""
    root = os.path.realpath(folder)
    members = archive.getmembers()
    for member in members:
        path = os.path.realpath(os.path.join(root, member.name))
        if os.path.commonpath([root, path]) != root or not (member.isfile() or member.isdir()):
            raise tarfile.TarError(f"{member.name!r} is no file or folder that stays in {folder}")
    return members
