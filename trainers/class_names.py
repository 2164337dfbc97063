"""What a model takes of a data set: the names of its classes, as the text tower sees them, and the prompt around them.

Two names that become one prompt have one score, and their images no right one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from clip import encode

DEFAULT_TEMPLATE = "a photo of a {}."


class Classes(NamedTuple):
    """C class names, and the prompt, "a photo of a {}."."""

    names: list[str]
    template: str
    must_differ: bool = False  #: two equal names are an error, not only a warning
    of_data_set: Sequence[str] = ()  #: the names of all its classes, where these are a part of them

    @classmethod
    def of(cls, dataset: Any) -> "Classes":
        """Those of a data set, of which a plugin's may say only the names."""
        return cls(
            dataset.classnames,
            getattr(dataset, "template", DEFAULT_TEMPLATE),
            getattr(dataset, "names_must_differ", False),
            getattr(dataset, "all_classnames", ()),
        )


def check_prompts(classnames: list[str], dataset: str, must_differ: bool) -> None:
    """Look for class names that the tokenizer makes nothing of, or the same as of another one.

    Capital letters, underscores, blanks and character references ("&amp;") make no difference to it.

    Args:
        classnames: in the order of their labels; "_" is read as a space.
        dataset: the data set's name, for messages.
        must_differ: whether equal ones are an error; where published numbers are made with some (ImageNet's class names
            have "missile" and "sunglasses" twice), they are named in a warning.

    Raises:
        ValueError: naming the first two, or the name that is none.
    """
    first: dict[tuple[int, ...], int] = {}
    same = []
    for label, name in enumerate(classnames):
        tokens = tuple(encode(name.replace("_", " ")))
        if not tokens:
            raise ValueError(f"{dataset}: of the class name {name!r} the tokenizer leaves nothing")
        other = first.setdefault(tokens, label)
        if other != label:
            same.append((classnames[other], name))
    if not same:
        return
    pairs = ", ".join(f"{one!r} and {other!r}" for one, other in same[:5])
    more = f" and {len(same) - 5} more" if len(same) > 5 else ""
    message = f"{dataset}: class names become one prompt, and cannot be told apart: {pairs}{more}"
    if must_differ:
        raise ValueError(f"{message}; give one of them another name")
    print(f"Warning: {message}")
