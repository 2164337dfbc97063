"""What must hold for a template, the prompt with ``{}`` for the class name."""

from __future__ import annotations


def check_template(template: str, key: str) -> None:
    """ValueError unless ``template``, the value of ``key``, has ``{}`` once and no other brace."""
    if template.count("{}") != 1 or template.count("{") != 1 or template.count("}") != 1:
        raise ValueError(f"{key} {template!r} must have one {{}} for the class name, and no other brace")
