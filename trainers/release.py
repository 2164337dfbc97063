"""What a method's released code is called and set to."""

from typing import Any, NamedTuple


class Release(NamedTuple):
    """A released trainer that one of ours reproduces.

    Attributes:
        section: its part of the config, whose keys are called alike here.
        settings: keys, named as in ``PromptTrainer.keys``, that make ours do what it does, unless it is told otherwise.
        only: its keys that do not exist here, with the one value that is covered.
        recorded: what a recording says of it (a constant that had to be changed) -> the key that it is here.
    """

    section: str
    settings: dict[str, Any]
    only: dict[str, Any]
    recorded: dict[str, str] = {}
