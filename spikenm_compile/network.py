"""The network that the command line works on: the user's own file, or the small one that the package carries."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from spikenm_compile.errors import InputError

CARRIED = Path(__file__).parent / "training" / "digits-2of4.safetensors"
"""Weights of the digits network, trained at 2:4 and folded, and a few digits as example inputs."""

EXAMPLES = "example_inputs"


@dataclass(frozen=True)
class Network:
    """A model and inputs to build it with."""

    model: nn.Module
    example_inputs: Tensor
    name: str


def load_network(source: str | None, weights: Path | None, pattern: str) -> Network:
    """The network `FILE.py:factory`, or the carried one.

    Args:
        source: `FILE.py:factory`; the factory takes nothing and returns (model, example_inputs). None: the carried one.
        weights: safetensors file with the model's state_dict; may be that of a transformed model, not folded yet.
        pattern: N:M with which weights that are not folded were trained.

    Raises:
        InputError: a file, the factory or what it returns is not as described, or the weights do not fit.
    """
    if source is None:
        if weights is not None:
            raise InputError("--weights needs the model they belong to: give MODEL.py:factory too")
        return carried_network()
    network = _call_factory(source)
    if weights is not None:
        _load_weights(network, weights, pattern)
    return network


def carried_network() -> Network:
    """The digits network at 2:4."""
    from safetensors.torch import load_file

    from spikenm_compile.training.digits import digits_net

    tensors = load_file(CARRIED)
    examples = tensors.pop(EXAMPLES)
    model = digits_net()
    model.load_state_dict(tensors)
    return Network(model.eval(), examples, "digits")


def _call_factory(source: str) -> Network:
    file, _, factory = source.rpartition(":")
    path = Path(file)
    if not file or not factory.isidentifier():
        raise InputError(f"model '{source}' is not of the form FILE.py:factory; write for example my_net.py:make")
    if not path.is_file():
        raise InputError(f"model file '{path}' does not exist; give FILE.py:factory with a path from here")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"model file '{path}' is not a Python file; give FILE.py:factory")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, factory, None)):
        functions = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise InputError(f"'{path}' has no function '{factory}'; it has {', '.join(functions) or 'none'}")
    made = getattr(module, factory)()
    if not (
        isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module) and isinstance(made[1], Tensor)
    ):
        raise InputError(
            f"{factory}() in '{path}' returned {_describe(made)}; a pair (model, example_inputs) of a torch module "
            f"and a float32 tensor of typical inputs is needed"
        )
    return Network(made[0].eval(), made[1].detach().to(torch.float32), type(made[0]).__name__)


def _describe(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(type(v).__name__ for v in value) + ")"
    return type(value).__name__


def _load_weights(network: Network, path: Path, pattern: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(
            f"weights file '{path}' does not exist; save one with safetensors.torch.save_file(model.state_dict(), ...)"
        )
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(
            f"weights file '{path}' is not a readable safetensors file ({error}); save it again"
        ) from error
    is_masked = any(name.endswith(".mask.logits") for name in tensors)
    if is_masked:
        from spikenm_compile.compiler import transform

        transform(network.model, pattern, example_inputs=network.example_inputs, report=None)
    try:
        network.model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"weights file '{path}' does not fit {network.name}: {reason}; give the weights of this model"
        ) from error
    if is_masked:
        from spikenm_compile.compiler import fold

        fold(network.model)
