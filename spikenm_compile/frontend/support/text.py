"""Rows as Markdown, and Markdown between the two marks of a file."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from spikenm_compile.errors import InputError
from spikenm_compile.frontend.adapters import ADAPTERS
from spikenm_compile.frontend.support.examples import LIBRARIES
from spikenm_compile.frontend.support.rows import Row, rows

BEGIN = "<!-- made by `make docs`: begin -->"
END = "<!-- made by `make docs`: end -->"


def support_tables() -> str:
    """A section for each library: the classes that have equations, and those that have none.

    Raises:
        ModuleNotFoundError: a library is not installed.
    """
    return "\n".join(line for adapter in ADAPTERS if adapter.name in LIBRARIES for line in _section(adapter.name))


def _section(name: str) -> Iterator[str]:
    adapter = next(adapter for adapter in ADAPTERS if adapter.name == name)
    library = LIBRARIES[name]
    found = list(rows(adapter, library))
    version = "" if name == "spikenm_compile" else f" {metadata.version(name)}"
    yield from (f"### {library.title}{version}", "", "| class | input | one step | exact |", "|---|---|---|---|")
    yield from (_compiled(row) for row in found if row.equations)
    yield ""
    reasons = list(dict.fromkeys(row.why_not for row in found if not row.equations))
    if reasons:
        yield from ("| captured and trained, but not compiled: the class … |  |", "|---|---|")
        yield from (f"| {', '.join(row.name for row in found if row.why_not == why)} | {why} |" for why in reasons)
        yield ""


def _compiled(row: Row) -> str:
    equations = "<br>".join(f"`{equation}`" for equation in row.equations)
    return f"| {row.name} | {' or '.join(row.inputs)} | {equations} | {'yes' if row.is_exact else 'no'} |"


def replaced(text: str, tables: str) -> str:
    """`text` with `tables` between its two marks.

    Raises:
        InputError: the marks are not there.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, behind = rest.partition(END)
    if not begin or not end:
        raise InputError(f"the file has no lines '{BEGIN}' and '{END}'; the tables go between them; add both lines")
    return f"{before}{BEGIN}\n\n{tables}\n{END}{behind}"
