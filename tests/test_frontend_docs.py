"""docs/frontends.md has the tables that the adapters make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spikenm_compile.errors import InputError
from spikenm_compile.frontend import norse_forms, sinabs, snntorch_forms, spikingjelly_forms
from spikenm_compile.frontend.adapters import ADAPTERS, is_neuron
from spikenm_compile.frontend.inline.leaf import INLINE
from spikenm_compile.frontend.registered import REGISTERED
from spikenm_compile.frontend.support.examples import LIBRARIES
from spikenm_compile.frontend.support.rows import Row, rows
from spikenm_compile.frontend.support.text import BEGIN, END, replaced, support_tables

PATH = Path(__file__).parent.parent / "docs" / "frontends.md"


def rows_of(name: str) -> dict[str, Row]:
    adapter = next(adapter for adapter in ADAPTERS if adapter.name == name)
    return {row.name: row for row in rows(adapter, LIBRARIES[name])}


def test_the_committed_tables_are_those_of_the_adapters(request: pytest.FixtureRequest) -> None:
    text = PATH.read_text()
    made = replaced(text, support_tables())
    if request.config.getoption("--update-golden"):
        PATH.write_text(made)
    else:
        assert text == made, "docs/frontends.md is old: run make docs, or pytest --update-golden"


def known_classes() -> Iterator[tuple[str, set[str]]]:
    yield "spikingjelly", {"IFNode", "LIFNode", "ParametricLIFNode", *spikingjelly_forms.FORMS}
    yield "snntorch", {*snntorch_forms.FORMS}
    yield "sinabs", {name for family in sinabs._CLASSES.values() for name in family}


@pytest.mark.parametrize(("library", "classes"), [*known_classes()])
def test_the_classes_with_equations_are_those_of_the_forms(library: str, classes: set[str]) -> None:
    assert {name for name, row in rows_of(library).items() if row.equations} == classes


def test_every_form_of_norse_has_a_class() -> None:
    shown = {row.equations for row in rows_of("norse").values() if row.equations}
    soft = norse_forms.LIF_BOX_SOFT.equations  # an option of LIFBoxCell
    assert shown == {form.equations for form in norse_forms.FORMS.values()} - {soft}


def test_every_refused_class_of_spikingjelly_says_why() -> None:
    refused = {name: row.why_not for name, row in rows_of("spikingjelly").items() if not row.equations}
    assert refused == {name: f"has no canonical neuron: {why}" for name, why in spikingjelly_forms.REFUSED.items()}


def test_every_library_with_neurons_has_a_table() -> None:
    support_tables()  # imports the libraries
    without_classes = (REGISTERED.name, INLINE.name)  # neurons of users' own
    assert [a.name for a in ADAPTERS if a.neuron_types() and a.name not in (*LIBRARIES, *without_classes)] == []


def test_inputs_and_exactness() -> None:
    jelly, bits = rows_of("spikingjelly"), rows_of("sinabs")
    assert jelly["LIFNode"].inputs == ("[B, …]", "[T, B, …]")
    assert jelly["SLTTLIFNode"].inputs == ("[B, …]",)
    assert jelly["DSRIFNode"].inputs == jelly["NonSpikingIFNode"].inputs == ("[T, B, …]",)
    assert (bits["LIF"].inputs, bits["LIFSqueeze"].inputs) == (("[B, T, …]",), ("[B·T, …]",))
    assert (jelly["EIFNode"].is_exact, jelly["LIFNode"].is_exact) == (False, True)


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    assert replaced(f"a\n{BEGIN}old{END}\nb", "new") == f"a\n{BEGIN}\n\nnew\n{END}\nb"
    with pytest.raises(InputError, match=r"the file has no lines .* add both lines"):
        replaced("a", "new")


class MyLIF(nn.Module):
    """The neuron that the page makes known."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(0.9))

    def forward(self, x: Tensor, mem: Tensor) -> tuple[Tensor, Tensor]:
        h = self.beta.detach() * mem + x
        spikes = (h > 1).float()
        return spikes, h - spikes


def test_the_example_of_a_neuron_of_ones_own_runs() -> None:
    names: dict[str, object] = {"MyLIF": MyLIF, "__builtins__": __builtins__}
    section = PATH.read_text().partition("## Your own neurons")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block.replace("lif: MyLIF", "lif"), names)
    assert is_neuron(MyLIF())
