"""What must hold for a template, the prompt with ``{}`` for the class name."""


def is_template(text: str) -> bool:
    """Whether ``text`` has ``{}`` once and no other brace."""
    return text.count("{}") == text.count("{") == text.count("}") == 1


def check_template(template: str, key: str) -> None:
    """ValueError unless ``template``, the value of ``key``, is one."""
    if not is_template(template):
        raise ValueError(f"{key} {template!r} must have one {{}} for the class name, and no other brace")
