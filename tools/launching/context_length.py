"""The settings that give a method a number of context tokens, checked on its built model."""

from functools import cache

from tools.launching.small_model import small_model

# Lengths to try: none that words ("a photo of a" has 4) or defaults (2, 4, 8, 16) give whatever is asked for.
PROBES = (3, 5)
# Initial words may decide the length. KgCoOp's are on unless they are switched off.
WITHOUT_WORDS = (None, "", "False")


@cache
def length_keys(
    trainer: str, config: str, settings: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys of a method's prompt length, every N_CTX... that it declares, and the pairs that make them count.

    The models that they give are built, on the bundled towers and with the user's `settings`, and their tokens counted.

    Raises:
        ValueError: the method declares no length, or has as many tokens whatever it is told.
    """
    declared = _declared(trainer)
    keys = tuple(key for key in declared if key.rpartition(".")[2].startswith("N_CTX"))
    if not keys:
        raise ValueError(f"{trainer} declares no N_CTX: it has no prompt length to vary")
    words = [key for key in declared if key.endswith(".CTX_INIT")]
    reason = ""
    for value in WITHOUT_WORDS:
        pairs = () if value is None else tuple(part for key in words for part in (key, value))
        try:
            found = [_tokens(trainer, config, (*_set(keys, length), *pairs, *settings)) for length in PROBES]
        except ValueError as error:  # too short for the words that it starts from
            reason = reason or str(error)
            continue
        if not any(found):  # not one of our models: nothing to count, the report compares what was trained
            return keys, ()
        if all(tokens == {length} for tokens, length in zip(found, PROBES)):
            return keys, pairs
        reason = (
            f"it has {' or '.join(map(str, sorted(set().union(*found))))} context tokens whatever N_CTX says"
        )
    raise ValueError(f"{trainer}/{config} has no prompt length to vary: {reason}")


def length_settings(trainer: str, config: str, n_ctx: int, settings: tuple[str, ...] = ()) -> list[str]:
    """The settings that give a method `n_ctx` context tokens, in whichever towers it has them; errors as above."""
    keys, pairs = length_keys(trainer, config, settings)
    return [*_set(keys, n_ctx), *pairs]


def _set(keys: tuple[str, ...], length: int) -> list[str]:
    return [part for key in keys for part in (key, str(length))]


def _declared(trainer: str) -> list[str]:
    """The keys of a method's own section of the config."""
    import trainers  # noqa: F401  registers the methods; slow, and no other protocol needs them
    from dassl.config import get_cfg_default
    from dassl.engine import TRAINER_REGISTRY

    cfg = get_cfg_default()
    others = set(cfg.TRAINER)
    TRAINER_REGISTRY.get(trainer).extend_cfg(cfg)
    own = {name: keys for name, keys in cfg.TRAINER.items() if name not in others and isinstance(keys, dict)}
    return [f"TRAINER.{name}.{key}" for name, keys in own.items() for key in keys]


def _tokens(trainer: str, config: str, settings: tuple[str, ...]) -> set[int]:
    """How many context tokens a prompt of each tower has; none of a method that is not a PromptModel."""
    model = small_model(trainer, config, settings)
    if model is None:
        return set()
    context, visual = getattr(model, "context", None), model.image_changes().prompts
    counted = {context.ctx.shape[-2]} if context is not None else set()
    return counted | ({visual.shape[-2]} if visual is not None else set())
