"""Checked reading of JSON objects: a value has the type that its reader asks for, or an error names file and field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, TypeGuard, TypeVar

from spikenm_compile.errors import ArtifactError

T = TypeVar("T")

_NON_FINITE = {"inf", "-inf", "nan"}
"""JSON has no numbers for these: they are written as text."""


class Fields:
    """One JSON object under check.

    Args:
        value: what the JSON parser returned.
        file: name of the file, for errors.
        path: field that holds the object, for errors; empty at the top.

    Raises:
        ArtifactError: here if `value` is no object; in each method if the field is missing or of another type.
    """

    def __init__(self, value: object, file: str, path: str = "") -> None:
        self._file = file
        self._path = path
        self._unread: set[str] = set()
        if not isinstance(value, dict):
            self._wrong(path or "the whole file", value, "an object")
        self._values: dict[str, object] = value
        self._unread = set(self._values)

    def text(self, name: str) -> str:
        """A string."""
        return self._of_type(name, str, "text")

    def optional_text(self, name: str) -> str | None:
        """A string or null."""
        return None if self._get(name) is None else self._of_type(name, str, "text or null")

    def flag(self, name: str) -> bool:
        """A truth value."""
        return self._of_type(name, bool, "true or false")

    def integer(self, name: str, least: int = 0) -> int:
        """A whole number not below `least`."""
        value = self._get(name)
        if not _is_integer(value, least):
            self._wrong(self._full(name), value, f"a whole number >= {least}")
        return value

    def optional_integer(self, name: str, least: int = 0) -> int | None:
        """A whole number not below `least`, or null."""
        return None if self._get(name) is None else self.integer(name, least)

    def number(self, name: str) -> float:
        """A number; infinities and NaN are the texts inf, -inf and nan."""
        value = self._get(name)
        if isinstance(value, str) and value in _NON_FINITE:
            return float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong(self._full(name), value, "a number")
        return float(value)

    def optional_number(self, name: str) -> float | None:
        """A number, or null."""
        return None if self._get(name) is None else self.number(name)

    def integers(self, name: str, least: int = 0) -> tuple[int, ...]:
        """A list of whole numbers not below `least`."""
        expected = f"a list of whole numbers >= {least}"
        items = self._of_type(name, list, expected)
        if not all(_is_integer(item, least) for item in items):
            self._wrong(self._full(name), items, expected)
        return tuple(items)

    def shape(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers >= 1."""
        return self.integers(name, least=1)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        items = self._of_type(name, list, "a list of texts")
        if not all(isinstance(item, str) for item in items):
            self._wrong(self._full(name), items, "a list of texts")
        return tuple(items)

    def mapping(self, name: str) -> Mapping[str, object]:
        """An object whose content is not looked at."""
        value: dict[str, object] = self._of_type(name, dict, "an object")
        return value

    def section(self, name: str) -> Fields:
        """An object, to be checked in turn."""
        return Fields(self._get(name), self._file, self._full(name))

    def sections(self, name: str) -> tuple[Fields, ...]:
        """A list of objects, to be checked in turn."""
        items = self._of_type(name, list, "a list of objects")
        return tuple(Fields(item, self._file, f"{self._full(name)}[{i}]") for i, item in enumerate(items))

    def names(self) -> tuple[str, ...]:
        """All field names, in the order of the file."""
        return tuple(self._values)

    def finish(self) -> None:
        """Refuse fields that nobody has read."""
        if self._unread:
            raise ArtifactError(
                f"{self._file}: field '{self._full(min(self._unread))}' is unknown; "
                f"known here: {', '.join(sorted(set(self._values) - self._unread))}; build the artifact again"
            )

    def refuse(self, name: str, expected: str) -> NoReturn:
        """Raise the error for a field whose value breaks a rule that only the caller knows."""
        self._wrong(self._full(name), self._get(name), expected)

    def _full(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _get(self, name: str) -> object:
        if name not in self._values:
            raise ArtifactError(f"{self._file}: field '{self._full(name)}' is missing; build the artifact again")
        self._unread.discard(name)
        return self._values[name]

    def _of_type(self, name: str, kind: type[T], expected: str) -> T:
        value = self._get(name)
        if not isinstance(value, kind):
            self._wrong(self._full(name), value, expected)
        return value

    def _wrong(self, field: str, value: object, expected: str) -> NoReturn:
        found = repr(value)
        found = found if len(found) <= 60 else found[:57] + "..."
        raise ArtifactError(
            f"{self._file}: field '{field}' is {found}; {expected} is expected; build the artifact again"
        )


def _is_integer(value: object, least: int) -> TypeGuard[int]:
    """JSON's true and false are int to Python, so they are told apart here."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
