"""TOML to a `Recipe`; every mistake in it ends in one sentence with the line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikenm_compile.errors import InputError, PatternError
from spikenm_compile.learning import MaskOptions, Schedule
from spikenm_compile.pattern import Pattern
from spikenm_compile.training.datasets.registry import DATASETS
from spikenm_compile.training.networks.table import NETWORKS, option_types
from spikenm_compile.training.recipe import DENSE, DataChoice, MaskChoice, NetworkChoice, Recipe
from spikenm_compile.training.settings import Settings
from spikenm_compile.training.tables import Where, checked, field_types, make, nearest
from spikenm_compile.weight_types import WeightType

TABLES = ("data", "network", "mask", "training", "output")
HEADER = re.compile(r"^\s*\[([^\[\]]+)\]\s*(?:#.*)?$")
KEY = re.compile(r"""^\s*(?:"([^"]+)"|'([^']+)'|([\w-]+))\s*[=.]""")


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a recipe, for messages."""

    path: Path
    lines: Mapping[tuple[str, str], int]
    """(table, key) -> line; the key is "" for the table itself."""

    def where(self, table: str) -> Where:
        """Key -> where it stands."""

        def place(key: str) -> str:
            line = self.lines.get((table, key)) or self.lines.get((table, ""))
            return f"recipe '{self.path}'{f', line {line}' if line else ''}, [{table}]"

        return place


def read_recipe(path: Path, changes: Sequence[str] = (), out: Path | None = None) -> Recipe:
    """The recipe in `path`.

    Args:
        path: the TOML file.
        changes: `table.key=value`, as `--set` takes them; they come after what the file says.
        out: instead of the `dir` of the file.

    Raises:
        InputError: the file is missing, is not TOML, or says something that a recipe cannot.
        PatternError: a pattern cannot be read.
    """
    if not path.is_file():
        raise InputError(f"recipe '{path}' is not a file; give a TOML file, examples/recipes has some")
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe '{path}' is not TOML: {error}; correct that line") from error
    for change in changes:
        _change(tables, change)
    return _recipe(Source(path, dict(_lines(text))), tables, out)


def _recipe(source: Source, tables: dict[str, Any], out: Path | None) -> Recipe:
    for table, content in tables.items():
        if table not in TABLES or not isinstance(content, dict):
            place = source.where(table)("")
            known = nearest(table, dict.fromkeys(TABLES))
            raise InputError(f"{place} is not a table of a recipe{known}; it has {', '.join(TABLES)}")
    parts = {table: tables.get(table, {}) for table in TABLES}
    output = checked(parts["output"], {"dir": str}, source.where("output"))
    return Recipe(
        path=source.path,
        data=_data(parts["data"], source.where("data")),
        network=_network(parts["network"], source.where("network")),
        mask=_mask(parts["mask"], source),
        training=_settings(parts["training"], source.where("training")),
        out=out or Path(output.get("dir", f"out/{source.path.stem}")),
        tables=tables,
    )


def _data(table: Mapping[str, Any], where: Where) -> DataChoice:
    values = checked(table, field_types(DataChoice), where)
    return DataChoice(**{**values, "name": _name(values, DATASETS, "data set", where)})


def _network(table: Mapping[str, Any], where: Where) -> NetworkChoice:
    options = {key: value for key, value in table.items() if key != "name"}
    name = table.get("name")
    if isinstance(name, str) and NetworkChoice(name).is_file:
        checked(options, {}, where)
        return NetworkChoice(name)
    known = _name(table, NETWORKS, "network", where)
    return NetworkChoice(known, checked(options, option_types(known), where))


def _name(table: Mapping[str, Any], known: Mapping[str, object], what: str, where: Where) -> str:
    name = table.get("name")
    if not isinstance(name, str) or name not in known:
        found = "names none" if name is None else f"names {name!r}{nearest(str(name), known)}"
        raise InputError(f"{where('name')} needs the name of a {what} and {found}; use one of {', '.join(known)}")
    return name


def _mask(table: Mapping[str, Any], source: Source) -> MaskChoice:
    where = source.where("mask")
    of_schedule, of_options = field_types(Schedule), field_types(MaskOptions)
    del of_schedule["total_steps"], of_options["schedule"]
    hints = {"pattern": str, "layers": dict, "weight_types": dict, **of_options, **of_schedule}
    values = checked(table, hints, where)
    pattern = _pattern(values.pop("pattern", "2:4"), where("pattern"))
    at = source.where("mask.layers")
    layers = {name: _pattern(text, at(name)) for name, text in values.pop("layers", {}).items()}
    named = values.pop("weight_types", {})
    weight_types = checked(named, dict.fromkeys(named, WeightType), source.where("mask.weight_types"))
    schedule = make(Schedule, {key: value for key, value in values.items() if key in of_schedule}, where)
    own = {key: value for key, value in values.items() if key in of_options}
    return MaskChoice(pattern, make(MaskOptions, {**own, "schedule": schedule}, where), layers, weight_types)


def _pattern(text: object, place: str) -> Pattern | None:
    if text == DENSE:
        return None
    try:
        return Pattern.parse(str(text))
    except PatternError as error:
        raise PatternError(f"{place}: {error}; or 'dense'") from error


def _settings(table: Mapping[str, Any], where: Where) -> Settings:
    return make(Settings, checked(table, field_types(Settings), where), where)


def _change(tables: dict[str, Any], change: str) -> None:
    """Put `table.key=value` into the tables.

    Raises:
        InputError: it is not of that form.
    """
    place, equals, text = change.partition("=")
    path = place.strip().split(".", 2)
    if not equals or len(path) < 2:
        raise InputError(f"--set {change} is not of the form table.key=value; write for example training.epochs=3")
    table = tables
    for name in path[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {change}: '{name}' is a value and no table in the recipe; leave out what follows")
    table[path[-1]] = _parsed(text.strip())


def _parsed(text: str) -> object:
    """A TOML value; what is none is a text, so that shells need no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _lines(text: str) -> Iterator[tuple[tuple[str, str], int]]:
    """((table, key), line) as they stand in the text."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := HEADER.match(line):
            table = header[1].strip()
            yield (table, ""), number
        elif key := KEY.match(line):
            yield (table, key[1] or key[2] or key[3]), number
