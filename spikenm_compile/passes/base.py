"""What a pass is, and how a pipeline runs one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch.fx import GraphModule

from spikenm_compile.errors import SpikenmError
from spikenm_compile.graph import verify_graph


@dataclass(frozen=True)
class Pass(ABC):
    """A rewrite of a step graph in place. Its fields are its options."""

    name: ClassVar[str]
    """The name in messages and file names: words-with-hyphens of the class and of the file."""
    runs_after: ClassVar[tuple[type[Pass], ...]] = ()
    """Passes whose result this one needs."""

    @abstractmethod
    def apply(self, graph_module: GraphModule) -> bool:
        """Rewrite and say whether anything changed; a second call right after changes nothing."""


AfterPass = Callable[[str, GraphModule], None]
"""Called with a pass's name and the graph after it."""


def check_order(passes: Sequence[Pass]) -> None:
    """Check every pass's `runs_after`.

    Raises:
        ValueError: listing all violations.
    """
    kinds = [type(p) for p in passes]
    wrong = [
        f"{later.name} needs {first.name} before it"
        for i, later in enumerate(kinds)
        for first in later.runs_after
        if first not in kinds[:i]
    ]
    if wrong:
        raise ValueError("; ".join(wrong))


def run_pipeline(passes: Sequence[Pass], graph_module: GraphModule, after: AfterPass | None = None) -> GraphModule:
    """Run `passes` in order on `graph_module` in place, verifying the graph after each.

    An error carries a note that names the pass it happened in and those before it.
    """
    check_order(passes)
    done: list[str] = []
    for p in passes:
        try:
            p.apply(graph_module)
            verify_graph(graph_module)
        except SpikenmError as error:
            error.add_note(f"in pass {p.name}, after: {', '.join(done) or 'none'}")
            raise
        done.append(p.name)
        if after is not None:
            after(p.name, graph_module)
    return graph_module
