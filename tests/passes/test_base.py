"""Order, verification and notes of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
from step_graphs import StepGraphBuilder
from torch import nn
from torch.fx import GraphModule

from spikenm_compile.errors import PassError
from spikenm_compile.graph import REGION, Region
from spikenm_compile.passes.base import Pass, check_order, run_pipeline


@dataclass(frozen=True)
class First(Pass):
    name: ClassVar[str] = "first"

    def apply(self, _graph_module: GraphModule) -> bool:
        return False


@dataclass(frozen=True)
class Second(First):
    name: ClassVar[str] = "second"
    runs_after: ClassVar[tuple[type[Pass], ...]] = (First,)


@dataclass(frozen=True)
class Third(First):
    name: ClassVar[str] = "third"
    runs_after: ClassVar[tuple[type[Pass], ...]] = (First, Second)


@dataclass(frozen=True)
class UseBeforeDefinition(First):
    """Moves a node to a region before that of its sources."""

    name: ClassVar[str] = "use-before-definition"

    def apply(self, graph_module: GraphModule) -> bool:
        for node in graph_module.graph.nodes:
            if node.name == "pool":
                node.meta[REGION] = Region.BEFORE
        return True


@dataclass(frozen=True)
class Refuses(First):
    name: ClassVar[str] = "refuses"

    def apply(self, _graph_module: GraphModule) -> bool:
        raise PassError("this graph cannot be lowered")


def small_graph() -> GraphModule:
    b = StepGraphBuilder((2, 4, 4))
    s = b.neuron("lif", b.layer("conv", nn.Conv2d(2, 3, 3), b.x))
    return b.output(b.mean(b.layer("pool", nn.MaxPool2d(2), s)))


def test_a_pipeline_in_order_passes() -> None:
    check_order([First(), Second(), Third()])
    check_order([First(), First(), Second()])
    check_order([])


def test_every_violation_of_the_order_is_listed() -> None:
    with pytest.raises(ValueError, match=r"^third needs first before it; third needs second before it; sec") as e:
        check_order([Third(), Second(), First()])
    assert str(e.value).count(";") == 2


def test_a_pass_does_not_come_before_itself() -> None:
    @dataclass(frozen=True)
    class Again(First):
        name: ClassVar[str] = "again"

    Again.runs_after = (Again,)
    with pytest.raises(ValueError, match="again needs again before it"):
        check_order([Again()])


def test_the_order_is_checked_before_any_pass_runs() -> None:
    with pytest.raises(ValueError, match="second needs first before it"):
        run_pipeline([Refuses(), Second()], small_graph())


def test_the_callback_sees_the_graph_after_each_pass() -> None:
    graph, seen = small_graph(), []
    passes = [First(), Second(), Third()]
    returned = run_pipeline(passes, graph, lambda name, after: seen.append((name, after is graph)))
    assert returned is graph
    assert seen == [("first", True), ("second", True), ("third", True)]


def test_a_pass_that_breaks_the_graph_is_caught_and_named() -> None:
    with pytest.raises(PassError, match="node 'pool' in region before uses 'getitem' of a later one") as error:
        run_pipeline([First(), UseBeforeDefinition(), Second()], small_graph())
    assert error.value.__notes__ == ["in pass use-before-definition, after: first"]


def test_the_note_of_an_error_names_the_pass_and_those_before_it() -> None:
    seen: list[str] = []
    with pytest.raises(PassError, match="this graph cannot be lowered") as error:
        run_pipeline([First(), Second(), Refuses()], small_graph(), lambda name, _: seen.append(name))
    assert error.value.__notes__ == ["in pass refuses, after: first, second"]
    assert seen == ["first", "second"]
    with pytest.raises(PassError) as error:
        run_pipeline([Refuses()], small_graph())
    assert error.value.__notes__ == ["in pass refuses, after: none"]
