"""Where in the user's code something happens: what a refusal names so that the line can be found."""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

import torch
from torch import nn

LOCATION = "location"
"""Key of `node.meta`."""
FOREIGN = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


@dataclass(frozen=True)
class Location:
    """A module of the model, and the line that calls it or that it is at."""

    module: str
    """Path in the model, empty for the model itself."""
    kind: str
    file: str
    line: int
    """0: no line, as inside of a torch.nn.Sequential."""

    def __str__(self) -> str:
        where = f"module '{self.module}' ({self.kind})" if self.module else self.kind
        return f"{where} at {at_line(self.file, self.line)}" if self.line else where


def at_line(file: str, line: int) -> str:
    """`net.py:12 `x = x.softmax(-1)``, without the folder."""
    return f"{Path(file).name}:{line} `{linecache.getline(file, line).strip()}`"


def called_from(module: str, kind: str, outermost: CodeType) -> Location:
    """The innermost line that is neither torch's nor the frontend's, below the call of `outermost`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not outermost:
        if not frame.f_code.co_filename.startswith(FOREIGN):
            return Location(module, kind, frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return Location(module, kind, "", 0)


def written_at(module: nn.Module, attribute: str) -> str:
    """` at net.py:12 `self.mem = mem``: where a method of the user's assigns the attribute, or else reads it; or ``."""
    found = []
    for name, method in inspect.getmembers(type(module), inspect.isfunction):
        file = inspect.getfile(method)
        if name != "__init__" and not file.startswith(FOREIGN):
            found += [(not stores, file, line) for stores, line in _mentions(method, attribute)]
    return f" at {at_line(*min(found)[1:])}" if found else ""


def _mentions(method: Callable[..., object], attribute: str) -> Iterator[tuple[bool, int]]:
    """(whether it is assigned, line) of every `self.attribute` in a method."""
    try:
        lines, first = inspect.getsourcelines(method)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, SyntaxError):  # typed into an interpreter, or a lambda cut out of its expression: no line to name
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == attribute and ast.unparse(node.value) == "self":
            yield isinstance(node.ctx, ast.Store), first + node.lineno - 1
