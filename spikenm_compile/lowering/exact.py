"""What every target refuses: neurons that two machines may compute differently."""

from __future__ import annotations

from spikenm_compile.errors import PassError
from spikenm_compile.ops import NeuronStep


def check_exact(step: NeuronStep) -> None:
    """Check that a layer of neurons gives the same numbers on every machine.

    Raises:
        PassError: it computes a function that the machines' libraries round each in their own way.
    """
    if not step.neuron.is_exact:
        raise PassError(
            f"layer '{step.layer}' computes {', '.join(step.neuron.inexact)}, whose last bit differs between machines; "
            f"targets equal their reference bit for bit and take + - * / and comparisons; use another neuron there"
        )
