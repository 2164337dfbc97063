"""What runs did that were made before there was a key, where that is not what the key's default says now."""

from collections.abc import Mapping
from typing import Any


def missing(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that flat settings lack, with the values that say what was done without them.

    Only where it decides something, and no key that has always been what it is now by default.
    """
    found = {}
    section = "TRAINER.MMTPA."
    if (
        settings.get("TRAINER.NAME") == "MMTPA"
        and settings.get(f"{section}VARIANT", "paper") == "paper"
        and settings.get(f"{section}HIERARCHICAL", True)
    ):
        found[f"{section}TEXT_END"] = "first"
    return {key: value for key, value in found.items() if key not in settings}
