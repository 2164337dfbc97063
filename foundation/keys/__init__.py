"""Config keys, each declared once: default, allowed values, and one line that says what it is."""

from .key import (
    Allowed,
    Key,
    above,
    any_number,
    at_least,
    at_most,
    between,
    check,
    declare,
    each,
    one_of,
    share,
    tree,
    value,
)

__all__ = [
    "Allowed",
    "Key",
    "above",
    "any_number",
    "at_least",
    "at_most",
    "between",
    "check",
    "declare",
    "each",
    "one_of",
    "share",
    "tree",
    "value",
]
