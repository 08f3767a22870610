"""docs/frontends.md names every neuron that the adapters know."""

from __future__ import annotations

from pathlib import Path

from spikenm_compile.frontend import sinabs, snntorch_forms, spikingjelly_forms

TEXT = (Path(__file__).parent.parent / "docs" / "frontends.md").read_text()


def test_every_known_neuron_is_in_the_table() -> None:
    families = [names[0] for names in sinabs._CLASSES.values()]
    names = [*spikingjelly_forms.FORMS, *snntorch_forms.FORMS, *families]
    assert len(names) > 30
    assert [name for name in names if name not in TEXT] == []
