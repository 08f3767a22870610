"""Networks written by hand with the neurons of `spikenm_compile.neurons`."""

from __future__ import annotations

from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapter import Adapter, ModuleTypes
from spikenm_compile.neurons import Neuron, SpikingNeuron


def _types() -> ModuleTypes:
    return (SpikingNeuron,)


def _canonical(module: nn.Module) -> Neuron:
    assert isinstance(module, SpikingNeuron)
    cls = type(module)
    if cls.forward is not SpikingNeuron.forward or cls._step is not SpikingNeuron._step:
        raise CaptureError(
            f"{cls.__name__} overrides the step of SpikingNeuron; a canonical neuron is a list of equations; write the "
            "step as a spikenm_compile.neurons.Neuron and override learned() only"
        )
    return module.canonical()


def _is_multi_step(module: nn.Module) -> bool:
    return isinstance(module, SpikingNeuron) and module.step_mode == "m"


def _layer(module: nn.Module) -> nn.Module | None:
    return None


def _reset(module: nn.Module) -> None:
    assert isinstance(module, SpikingNeuron)
    module.reset()


def _num_inputs(module: nn.Module) -> int:
    assert isinstance(module, SpikingNeuron)
    return len(module.neuron.inputs)


HANDWRITTEN = Adapter(
    "spikenm_compile", _types, _types, _canonical, _is_multi_step, _layer, _reset, num_inputs=_num_inputs
)
