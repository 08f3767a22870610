"""Tables of a recipe, checked key by key: an unknown or mistyped key ends in one sentence that names its place."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from spikenm_compile.errors import InputError

Where = Callable[[str], str]
"""Key -> where it stands, for messages: "recipe 'r.toml', line 7, [training]"."""

Made = TypeVar("Made")

WORDS: dict[object, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def checked(table: Mapping[str, object], hints: Mapping[str, Any], where: Where) -> dict[str, Any]:
    """The values of `table`, each of the type that `hints` gives its key.

    Raises:
        InputError: a key that `hints` does not have, or a value of another type.
    """
    for key in table:
        if key not in hints:
            raise InputError(f"{where(key)} has no key '{key}'{nearest(key, hints)}; it takes {', '.join(hints)}")
    return {key: _value(value, hints[key], where(key), key) for key, value in table.items()}


def make(kind: Callable[..., Made], values: Mapping[str, Any], where: Where) -> Made:
    """`kind(**values)`; what it refuses is told with the place of the table.

    Raises:
        InputError: `kind` refuses the values.
    """
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"{where('')}: {error}") from error


def field_types(kind: type) -> dict[str, Any]:
    """Field -> type of a dataclass, in its order."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def nearest(word: str, known: Mapping[str, Any]) -> str:
    """`; did you mean ...?` where a known word is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _value(value: object, hint: Any, place: str, key: str) -> object:
    for kind in _alternatives(hint):
        if typing.get_origin(kind) is typing.Literal:
            if value in typing.get_args(kind):
                return value
        elif typing.get_origin(kind) is tuple:
            if isinstance(value, list | tuple):
                member = typing.get_args(kind)[0]
                return tuple(_value(one, member, place, key) for one in value)
        elif _is(value, typing.get_origin(kind) or kind):
            return float(value) if kind is float else value  # type: ignore[arg-type]
    raise InputError(f"{place}: {key} = {value!r} is not {_describe(hint)}; write {key} = {_describe(hint)}")


def _alternatives(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    return typing.get_args(hint) if is_union else (hint,)


def _is(value: object, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is Mapping or kind is dict or kind is getattr(typing, "Mapping", None):
        return isinstance(value, dict)
    return isinstance(kind, type) and isinstance(value, kind)


def _describe(hint: Any) -> str:
    """What a value of this type is, in words."""
    words = []
    for kind in _alternatives(hint):
        if typing.get_origin(kind) is typing.Literal:
            words.append(" or ".join(map(repr, typing.get_args(kind))))
        elif typing.get_origin(kind) is tuple:
            words.append(f"a list, each {_describe(typing.get_args(kind)[0])}")
        elif kind is not types.NoneType:
            words.append(WORDS.get(kind, "a table"))
    return " or ".join(words)
