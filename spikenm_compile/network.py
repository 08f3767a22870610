"""The network that the command line works on: the user's own file, or the small one that the package carries."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from spikenm_compile.errors import InputError
from spikenm_compile.learning.attach import attach_dense, attach_mask
from spikenm_compile.learning.fold import fold_masks
from spikenm_compile.learning.options import MaskOptions, decode_identity
from spikenm_compile.weight_types import type_of_largest

CARRIED = Path(__file__).parent / "training" / "digits-2of4.safetensors"
"""Weights of the digits network, trained at 2:4 and folded, and a few digits as example inputs."""

CARRIED_NAME = "digits"

EXAMPLES = "example_inputs"

RECIPE = ".toml"
"""How files that describe a training end."""


@dataclass(frozen=True)
class Network:
    """A model and inputs to build it with."""

    model: nn.Module
    example_inputs: Tensor
    name: str


def load_network(source: str | None, weights: Path | None) -> Network:
    """The network `FILE.py:factory`, that of a recipe, or the carried one.

    Args:
        source: `FILE.py:factory`, whose factory takes nothing and returns (model, example_inputs); or a recipe,
            `FILE.toml`. None: the carried one.
        weights: safetensors file with the model's state_dict; may be that of a transformed model, not folded yet.

    Raises:
        InputError: a file, the factory or what it returns is not as described, or the weights do not fit.
    """
    # torch logs a traceback of every shape that does not fit, which our own error says in one line
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)
    if source is None:
        if weights is not None:
            raise InputError("--weights needs the model they belong to: give MODEL.py:factory too")
        return carried_network()
    if source.endswith(RECIPE):
        from spikenm_compile.training.recipe_model import network_of_recipe

        return network_of_recipe(Path(source), weights)
    network = call_factory(source)
    if weights is not None:
        load_weights(network, weights)
    return network


def carried_network() -> Network:
    """The digits network at 2:4."""
    from safetensors.torch import load_file

    from spikenm_compile.training.digits import digits_net

    tensors = load_file(CARRIED)
    examples = tensors.pop(EXAMPLES)
    model = digits_net()
    model.load_state_dict(tensors)
    return Network(model.eval(), examples, CARRIED_NAME)


def call_factory(source: str) -> Network:
    """What `FILE.py:factory` makes.

    Raises:
        InputError: the file, the factory or what it returns is not as described.
    """
    file, _, factory = source.rpartition(":")
    path = Path(file)
    if not file or not factory.isidentifier():
        raise InputError(f"model '{source}' is not of the form FILE.py:factory; write for example my_net.py:make")
    if not path.is_file():
        raise InputError(f"model file '{path}' does not exist; give FILE.py:factory with a path from here")
    if path.suffix != ".py":
        raise InputError(f"model file '{path}' is not a Python file; give FILE.py:factory")
    with _code_of(path):
        module = _import(path)
    function = getattr(module, factory, None)
    if not callable(function):
        own = [name for name, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__]
        raise InputError(f"'{path}' has no function '{factory}'; it has {', '.join(own) or 'none'}")
    with _code_of(path):
        made = function()
    match made:
        case (nn.Module() as model, Tensor() as example_inputs):
            return Network(model.eval(), example_inputs.detach().to(torch.float32), type(model).__name__)
    raise InputError(
        f"{factory}() in '{path}' returned {_describe(made)}; a pair (model, example_inputs) of a torch module and a "
        "float32 tensor of typical inputs is needed"
    )


def _import(path: Path) -> ModuleType:
    # The prefix keeps a file named like an installed package from taking its place.
    spec = importlib.util.spec_from_file_location(f"model_file_{path.stem}", path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@contextmanager
def _code_of(path: Path) -> Iterator[None]:
    """Run the user's code as `python FILE.py` would, with its neighbours importable; stdout is kept for results.

    Raises:
        InputError: the code raises or exits.
    """
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as error:
        raise InputError(_explain(path, error)) from error
    finally:
        sys.path.remove(folder)


def _explain(path: Path, error: BaseException) -> str:
    """The line of the model file that was running, and what happened there."""
    frames = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path.resolve())]
    line = frames[-1] if frames else getattr(error, "lineno", None)
    return (
        f"model file '{path}' stopped{f' at line {line}' if line else ''}: {type(error).__name__}: "
        f"{str(error).rstrip('.') or 'no message'}; the factory takes nothing and returns (model, example_inputs); "
        "correct the file"
    )


def _describe(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(type(v).__name__ for v in value) + ")"
    return type(value).__name__


def load_weights(network: Network, path: Path) -> None:
    """Give the network the weights of a safetensors file; masks in them are folded.

    Raises:
        InputError: the file cannot be read, or does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise InputError(
            f"weights file '{path}' {what}; save one with safetensors.torch.save_file(model.state_dict(), ...)"
        )
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(
            f"weights file '{path}' is not a readable safetensors file ({error}); "
            "save one with safetensors.torch.save_file(model.state_dict(), ...)"
        ) from error
    learning = _attach_learners(network.model, tensors)
    try:
        network.model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = textwrap.shorten(str(error).partition(":")[2], 300, placeholder=" …").rstrip(".")
        raise InputError(
            f"weights file '{path}' does not fit {network.name}: {reason}; give the weights of this model"
        ) from error
    if learning:
        fold_masks(network.model)


def _attach_learners(model: nn.Module, tensors: dict[str, Tensor]) -> bool:
    """Learners for weights that are not folded yet, as they were trained; whether there are any."""
    layers = dict(model.named_modules())
    learning = {name.removesuffix(".mask.step") for name in tensors if name.endswith(".mask.step")}
    for name in learning.intersection(layers):  # load_state_dict names those that are not there
        nm, largest = tensors.get(f"{name}.mask.nm"), tensors.get(f"{name}.mask.largest")
        kind = None if largest is None else type_of_largest(int(largest))
        if nm is None:
            attach_dense(layers[name], MaskOptions(weight_type=kind), name)
        else:
            pattern, learner = decode_identity(nm.tolist())
            attach_mask(layers[name], pattern, MaskOptions(learner=learner, weight_type=kind), name)
    return bool(learning)
