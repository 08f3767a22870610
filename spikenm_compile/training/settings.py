"""How a network is trained: every number of it in one frozen object that a checkpoint can be compared with."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from typing import Any

import torch
from torch.optim import Optimizer

from spikenm_compile.errors import InputError
from spikenm_compile.training.memory import MEMORY

LR_SCHEDULES = ("cosine", "constant")
PRECISIONS = ("float32", "bfloat16")
COMPILERS = ("none", "inductor", "aot_eager", "eager")
DISTRIBUTED = ("ddp", "fsdp")
NEEDS_CLOSURE = ("LBFGS",)
"""Optimisers that compute the loss several times per step."""
GROUP_OPTIONS = ("params", "lr", "weight_decay")
"""Arguments of optimisers that other settings give."""
FREE = frozenset(
    (
        *("accumulate", "compile", "memory", "distributed", "threads"),
        *("checkpoint_every", "log_every", "evaluate_every", "tensorboard"),
    )
)
"""Settings that may change between a checkpoint and its continuation: they say how to compute, not what."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One training. Steps are optimiser steps.

    Raises:
        InputError: a value that cannot be meant.
    """

    epochs: int = 12
    batch_size: int = 64
    """Samples of one step, over all processes and parts; what is left over at the end of an epoch is left out."""
    accumulate: int = 1
    """Parts that each batch is computed in, one after the other, to save memory."""
    lr: float = 3e-3
    lr_schedule: str = "cosine"
    """"cosine" (to 0 at the last step) or "constant"."""
    warmup: int = 0
    """First steps, over which the learning rate rises linearly."""
    weight_decay: float = 1e-4
    """Of the weights; mask logits have none."""
    optimizer: str = "AdamW"
    """Name of a class in torch.optim."""
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of that class, as momentum of SGD."""
    label_smoothing: float = 0.05
    activity_target: float = 0.0
    """Spikes per neuron and time step that a layer may have without penalty (`learning.activity`); 0: any."""
    activity_strength: float = 0.3
    """Weight of that penalty."""
    precision: str = "float32"
    """"float32", or "bfloat16": autocast; parameters, masks and optimiser stay float32."""
    compile: str = "none"
    """"none", or the backend of torch.compile: "inductor" (wants g++), "aot_eager", "eager"."""
    memory: str = "none"
    """Name of a way to save activation memory (`training.memory`), or "none"."""
    distributed: str = "ddp"
    """Where torchrun started several processes: "ddp" (each holds the model) or "fsdp" (each holds a share)."""
    seed: int = 0
    """Of the order of the samples and of what the model draws, as dropout."""
    threads: int = 0
    """Threads of torch on the CPU; 0 leaves them as they are."""
    checkpoint_every: int = 100
    """Steps; 0: only at the end and when interrupted."""
    log_every: int = 10
    """Steps between two lines of the log."""
    evaluate_every: int = 1
    """Epochs between two measurements of the test accuracy, for the log; 0: never."""
    tensorboard: bool = False
    """Whether the log is written for TensorBoard too."""

    def __post_init__(self) -> None:
        for name, holds, wanted in CHECKS:
            value = getattr(self, name)
            if not holds(value):
                raise InputError(f"{name}={value!r} is not a setting of a training; {name} is {wanted}")
        if self.batch_size % self.accumulate:
            raise InputError(
                f"a batch of {self.batch_size} does not split into {self.accumulate} equal parts; "
                "choose accumulate so that it divides batch_size"
            )
        optimizer_class(self.optimizer, self.optimizer_options)

    def total_steps(self, num_samples: int) -> int:
        """Steps of the whole training: what `transform(total_steps=...)` wants to know.

        Raises:
            InputError: fewer samples than one batch.
        """
        steps = self.epochs * (num_samples // self.batch_size)
        if steps < 1:
            raise InputError(
                f"{num_samples} images × {self.epochs} epochs make no batch; "
                f"train on {self.batch_size} images or more, or choose a smaller batch_size"
            )
        return steps

    def fixed(self) -> dict[str, Any]:
        """Settings that decide the result, by name; those of a checkpoint must be equal."""
        return {name: value for name, value in asdict(self).items() if name not in FREE}


def optimizer_class(name: str, options: Mapping[str, Any]) -> type[Optimizer]:
    """The class of torch.optim called `name`, with `options` known to it.

    Raises:
        InputError: no such class, one that needs a closure, or an option that it does not have.
    """
    kind = getattr(torch.optim, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, Optimizer)) or kind is Optimizer or name in NEEDS_CLOSURE:
        raise InputError(
            f"'{name}' is not an optimiser that this training can use; "
            f"it takes the classes of torch.optim that step once per batch, as {_nearest(name, dir(torch.optim))}"
        )
    known = [p for p in inspect.signature(kind).parameters if p not in GROUP_OPTIONS]
    for option in options:
        if option not in known:
            raise InputError(
                f"'{option}' is not an option of torch.optim.{name} beside lr and weight_decay; "
                f"it has {', '.join(known)}"
            )
    return kind


def _nearest(name: str, known: list[str]) -> str:
    lower = {k.lower(): k for k in known}
    return next((lower[match] for match in get_close_matches(name.lower(), lower, 1)), "AdamW or SGD")


def _whole(smallest: int) -> tuple[Callable[[object], bool], str]:
    return lambda v: type(v) is int and v >= smallest, f"a whole number of at least {smallest}"


def _real(low: float, high: float = math.inf) -> tuple[Callable[[object], bool], str]:
    bounds = f"of at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g})"
    return lambda v: type(v) in (int, float) and low <= v < high, f"a number {bounds}"


def _one_of(names: tuple[str, ...]) -> tuple[Callable[[object], bool], str]:
    return lambda v: v in names, f"one of {', '.join(names)}"


CHECKS: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("epochs", *_whole(1)),
    ("batch_size", *_whole(1)),
    ("accumulate", *_whole(1)),
    ("lr", *_real(0.0)),
    ("lr_schedule", *_one_of(LR_SCHEDULES)),
    ("warmup", *_whole(0)),
    ("weight_decay", *_real(0.0)),
    ("label_smoothing", *_real(0.0, 1.0)),
    ("activity_target", *_real(0.0)),
    ("activity_strength", *_real(0.0)),
    ("precision", *_one_of(PRECISIONS)),
    ("compile", *_one_of(COMPILERS)),
    ("memory", *_one_of(tuple(MEMORY))),
    ("distributed", *_one_of(DISTRIBUTED)),
    ("seed", *_whole(0)),
    ("threads", *_whole(0)),
    ("checkpoint_every", *_whole(0)),
    ("log_every", *_whole(1)),
    ("evaluate_every", *_whole(0)),
)
"""(name, whether a value can be meant, what the name stands for)."""
