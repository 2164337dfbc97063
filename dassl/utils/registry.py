"""Names of trainers, data sets, evaluators ... and the classes they stand for."""

from typing import Any

__all__ = ["Registry"]


class UnknownNameError(KeyError, ValueError):
    """A name that is not registered. A KeyError as in Dassl, but its text is not quoted."""

    __str__ = Exception.__str__


class Registry:
    """A mapping from names to objects.

    >>> SHAPES = Registry("SHAPE")
    >>> @SHAPES.register()
    ... class Circle: ...
    >>> SHAPES.get("Circle") is Circle
    True
    """

    def __init__(self, name: str):
        self._name = name
        self._obj_map: dict[str, Any] = {}

    def register(self, obj: Any = None, force: bool = False) -> Any:
        """Register ``obj`` under its ``__name__``; without ``obj``, a decorator that does so.

        Raises:
            KeyError: the name is taken and ``force`` is not set.
        """
        if obj is not None:
            self._do_register(obj.__name__, obj, force)
            return None

        def decorator(obj: Any) -> Any:
            self._do_register(obj.__name__, obj, force)
            return obj

        return decorator

    def _do_register(self, name: str, obj: Any, force: bool = False) -> None:
        if name in self._obj_map and not force:
            raise KeyError(f'An object named "{name}" was already registered in "{self._name}" registry')
        self._obj_map[name] = obj

    def get(self, name: str) -> Any:
        """The object of that name.

        Raises:
            UnknownNameError: (a KeyError and a ValueError) there is none; lists the names there are.
        """
        if name not in self._obj_map:
            names = ", ".join(sorted(self._obj_map)) or "nothing is registered"
            raise UnknownNameError(f'"{name}" does not exist in "{self._name}" registry (available: {names})')
        return self._obj_map[name]

    def registered_names(self) -> list[str]:
        return list(self._obj_map)
