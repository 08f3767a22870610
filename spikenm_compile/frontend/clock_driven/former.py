"""Former classes of SpikingJelly as classes that make objects of SpikingJelly 2.0.

`MultiStepLIFNode(2.0, backend="cupy")` is `LIFNode(2.0, step_mode="m")`, and `isinstance` and subclasses work.
"""

from __future__ import annotations

import inspect
from typing import Any

from spikenm_compile.frontend.clock_driven.names import NO_LONGER, Renamed


class FormerType(type):
    """A class whose calls make objects of its base, a class of 2.0; a user's subclass of it is as any other class."""

    renamed: Renamed

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """An object of the class of 2.0, or of a user's subclass."""
        if "renamed" not in vars(cls):
            return super().__call__(*args, **kwargs)
        positional, named = translated(cls.__mro__[1], cls.renamed, args, kwargs)
        return cls.__mro__[1](*positional, **named)

    def __instancecheck__(cls, instance: object) -> bool:
        """Whether it is of the class of 2.0, in the step mode that the former class had."""
        if "renamed" not in vars(cls):
            return super().__instancecheck__(instance)
        mode = cls.renamed.step_mode
        return isinstance(instance, cls.__mro__[1]) and mode in (None, getattr(instance, "step_mode", None))


def former_class(name: str, renamed: Renamed, current: type[Any], module: str) -> FormerType:
    """The class `name` of the former module `module`, made of the class `current` of 2.0."""

    def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
        positional, named = translated(current, renamed, args, kwargs)
        current.__init__(self, *positional, **named)

    namespace = {"__init__": initialise, "__module__": module, "__doc__": current.__doc__, "renamed": renamed}
    return FormerType(name, (current,), namespace)


def translated(
    current: type[Any], renamed: Renamed, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of the former class as the class of 2.0 takes them.

    What comes by position is in the same order in both, up to the arguments that are there no longer; 2.0 has
    `step_mode` in the place of the first of these.
    """
    names = list(inspect.signature(current).parameters)
    kept = args[: names.index("step_mode")] if "step_mode" in names else args
    given = {*names[: len(kept)], *kwargs}
    mode = {} if renamed.step_mode is None else {"step_mode": renamed.step_mode}
    defaults = {name: value for name, value in renamed.defaults if name not in given}
    return kept, {**defaults, **{k: v for k, v in kwargs.items() if k not in NO_LONGER}, **mode}
