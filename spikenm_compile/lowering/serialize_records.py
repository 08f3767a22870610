"""JSON objects whose fields are checked as they are read, and the numbers that JSON cannot hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from spikenm_compile.errors import ArtifactError

T = TypeVar("T")

Object = dict[str, object]
"""A JSON object."""

_NAMES: dict[type, str] = {int: "a whole number", str: "text", bool: "true or false", list: "a list"}
"""What a type of field is called in messages."""


def encode_number(value: float) -> float | str:
    """A number as JSON holds it exactly: not finite ones become text, "-inf" for example."""
    return value if math.isfinite(value) else str(float(value))


@dataclass(frozen=True, slots=True)
class Record:
    """A JSON object of a stored graph.

    Raises:
        ArtifactError: by each reader, when the field is missing or of another type.
    """

    fields: Mapping[str, object]
    where: str
    """What the object describes, for messages."""

    @classmethod
    def of(cls, value: object, where: str) -> Record:
        """The record in `value`, which must be a JSON object."""
        if not isinstance(value, Mapping):
            raise ArtifactError(f"{where} of the stored graph is not a JSON object; build the artifact again")
        return cls(value, where)

    def has(self, key: str) -> bool:
        """Whether a field is there and not null."""
        return self.fields.get(key) is not None

    def get(self, key: str, kind: type[T]) -> T:
        """A field of exactly that type."""
        if key not in self.fields:
            raise ArtifactError(f"{self.where} of the stored graph has no field '{key}'; build the artifact again")
        value = self.fields[key]
        if type(value) is not kind:
            raise self.wrong(key, _NAMES[kind])
        return value

    def number(self, key: str) -> float:
        """A float; "inf", "-inf" and "nan" stand for themselves."""
        value = self.fields.get(key)
        if value in ("inf", "-inf", "nan") or type(value) in (int, float):
            return float(value)  # type: ignore[arg-type]
        raise self.wrong(key, "a number")

    def sizes(self, key: str, length: int | None = None, *, least: int = 0) -> tuple[int, ...]:
        """A tuple of whole numbers, none below `least`."""
        value = self.get(key, list)
        if any(type(v) is not int or v < least for v in value) or (length is not None and len(value) != length):
            raise self.wrong(key, f"{'some' if length is None else length} whole numbers >= {least}")
        return tuple(value)

    def record(self, key: str) -> Record:
        """A field that is an object itself."""
        return Record.of(self.fields.get(key), f"{self.where}.{key}")

    def wrong(self, key: str, expected: str) -> ArtifactError:
        """The error for a field that cannot be used."""
        found: Any = self.fields.get(key)
        return ArtifactError(
            f"{self.where} of the stored graph has {key}={found!r}; it must be {expected}; build the artifact again"
        )
