"""What a reader of a method's numbers must know: a trainer declares it by name, its records carry it, tables say it."""

from typing import Any

#: Name -> what stands behind the methods' names below a table.
DISCLOSURES = {
    "told_half": "told at test time which half of the classes is tested",
    "set_for_dataset": "settings chosen for each data set",
    "set_for_target": "settings chosen again for each data set that a model is transferred to",
    "chosen_on_test": "what is reported was chosen by test images",
    "language_model": "texts from a language model",
    "transductive": "sees all test images before it scores the first",
    "features_only": "trained on image features only",
    "reconstruction": "a reconstruction, its authors have published no code",
}
#: Of methods whose records may be older than this.
OLDER = {"APLe": ("reconstruction",)}


def learns(record: dict[str, Any]) -> bool:
    """Whether training images decide what a record's run has tested; older records say how many parameters it had."""
    return bool(record.get("learns", record["trainable_parameters"]))


def disclosures_of(record: dict[str, Any]) -> set[str]:
    """The names that a run's record carries."""
    return set(record.get("disclosures", OLDER.get(record["trainer"], ())))
