"""docs/frontends.md names every neuron that the adapters know."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from spikenm_compile.frontend import sinabs, snntorch_forms, spikingjelly_forms
from spikenm_compile.frontend.adapters import is_neuron

TEXT = (Path(__file__).parent.parent / "docs" / "frontends.md").read_text()


def test_every_known_neuron_is_in_the_table() -> None:
    families = [names[0] for names in sinabs._CLASSES.values()]
    names = [*spikingjelly_forms.FORMS, *snntorch_forms.FORMS, *families]
    assert len(names) > 30
    assert [name for name in names if name not in TEXT] == []


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
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block.replace("lif: MyLIF", "lif"), names)
    assert is_neuron(MyLIF())
