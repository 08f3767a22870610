"""What a training has to remember between two steps, as whole tensors by name, whatever the number of processes.

    model/NAME             parameters and buffers of the model, those of the mask learners among them
    optimizer/NAME/KEY     state of the optimiser, by the name of the parameter

Learning rate, order of samples, random numbers and mask noise are functions of the step, and need no memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from spikenm_compile.errors import CheckpointError


def collect_state(model: nn.Module, optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, numbers) of model and optimiser, copied. All processes have to call it together.

    Raises:
        CheckpointError: the model's state_dict has an entry that is no tensor.
    """
    tensors = {f"model/{name}": _whole(name, value) for name, value in model.state_dict().items()}
    numbers: dict[str, Any] = {}
    for name, _, state in _states(model, optimizer):
        for key, value in state.items():
            path = f"optimizer/{name}/{key}"
            if isinstance(value, Tensor):
                tensors[path] = _whole(path, value)
            else:
                numbers[path] = value
    return tensors, numbers


def restore_state(
    model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """Give model and optimiser the state that `collect_state` gave. All processes have to call it together.

    Raises:
        CheckpointError: it is the state of another model; model and optimiser are unchanged then.
    """
    own = model.state_dict()
    kept = {name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")}
    for name in sorted(own.keys() | kept.keys()):
        here, there = _shape(own.get(name)), _shape(kept.get(name))
        if here != there:
            raise CheckpointError(
                f"the checkpoint is of another model: '{name}' is {there} there and {here} here; "
                "build the model as it was, or start again in another run_dir"
            )
    model.load_state_dict({name: _placed(value, own[name]) for name, value in kept.items()})
    states = {}
    for index, (name, parameter, _) in enumerate(_states(model, optimizer)):
        prefix = f"optimizer/{name}/"
        state = {k.removeprefix(prefix): _placed(v, parameter) for k, v in tensors.items() if k.startswith(prefix)}
        state |= {k.removeprefix(prefix): v for k, v in numbers.items() if k.startswith(prefix)}
        if state:
            states[index] = state
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _states(model: nn.Module, optimizer: Optimizer) -> Iterator[tuple[str, Tensor, dict[str, Any]]]:
    """(name, parameter, its state) in the order in which the optimiser numbers its parameters."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield names[id(parameter)], parameter, optimizer.state.get(parameter, {})


def _shape(value: Tensor | None) -> str:
    return "missing" if value is None else "×".join(map(str, value.shape)) or "a number"


def _whole(name: str, value: object) -> Tensor:
    """A copy on the CPU with rows one after the other, as files have them."""
    if not isinstance(value, Tensor):
        raise CheckpointError(
            f"'{name}' of the model's state_dict is a {type(value).__name__}; a checkpoint holds tensors: "
            "make it a buffer, or train without run_dir"
        )
    whole = value.full_tensor() if isinstance(value, DTensor) else value
    return whole.detach().to("cpu", copy=True).contiguous()


def _placed(value: Tensor, like: Tensor) -> Tensor:
    """`value` where and how `like` is stored; numbers stay where they are."""
    if value.ndim == 0 or value.shape != like.shape:
        return value
    if isinstance(like, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return torch.empty_like(like, dtype=value.dtype, requires_grad=False).copy_(value)
