"""One run: data, network, masks, training, fold, and what is measured."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.learning_networks import data_of, network
from benchmarks.learning_runs import DENSE, Measured, Run, Training
from spikenm_compile import fold, transform
from spikenm_compile.learning import ActivityTarget, MaskOptions, Schedule, masked_layers, param_groups
from spikenm_compile.learning.attach import learning_layers
from spikenm_compile.learning.options import LearnerName
from spikenm_compile.neurons import LIF
from spikenm_compile.training.digits import ImageData
from spikenm_compile.training.evaluation import reset_neurons
from spikenm_compile.training.settings import Settings

USUAL = Settings()
"""Batch size, weight decay and smoothing of labels."""
FLIP_WINDOWS = (1, 4, 7)
"""Twelfths of the training over which mask changes are counted."""
MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_THRESHOLD = -1, -3
TWO_GIB = 2**31 - 1


def keep_memory() -> None:
    """Let glibc keep freed memory: asking the system for it anew takes a third of a training of this size."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(MALLOC_MMAP_THRESHOLD, TWO_GIB)
        libc.mallopt(MALLOC_TRIM_THRESHOLD, TWO_GIB)


def measure(run: Run) -> Measured:
    """Train as `run` says and measure; the same run gives the same numbers, but for the seconds."""
    started = time.perf_counter()
    model, flips, density = trained(run)
    accuracy, loss, rate = evaluated(model, data_of(run))
    return Measured(100.0 * accuracy, loss, rate, density, flips, time.perf_counter() - started)


def trained(run: Run) -> tuple[nn.Module, tuple[float, ...], float]:
    """The network after training and fold, flips at FLIP_WINDOWS, share of weights left in the pruned layers."""
    data, options = data_of(run), mask_options(run)
    torch.manual_seed(run.split + 1000 * run.validate)
    model = network(run).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if run.learner != DENSE or options.weight_type is not None:
        transform(model, run.pattern or None, options=options, report=None, example_inputs=data.train_images[:2])
    flips = _train(model, data, run)
    pruned = [layer for _, layer, _ in masked_layers(model)]
    if any(learning_layers(model)):
        fold(model)
    kept = [float((weight_of(layer) != 0).float().mean()) for layer in pruned]
    return model, flips, sum(kept) / len(kept) if kept else 1.0


class _ConstantSchedule(Schedule):
    """Noise and distillation that do not cool down."""

    def sigma(self, step: int) -> float:
        """σ0 until the tail."""
        return 0.0 if self.is_frozen(step) else self.noise

    def eid_weight(self, step: int) -> float:
        """λ0 until the tail."""
        return 0.0 if self.is_frozen(step) else self.eid


def mask_options(run: Run) -> MaskOptions:
    """How the masks of a run are learned."""
    training, options = run.training(), dict(run.options)
    kind = _ConstantSchedule if training.constant else Schedule
    schedule = kind(total_steps=training.steps, **_fields_of(Schedule, options))
    learner = cast("LearnerName", MaskOptions().learner if run.learner == DENSE else run.learner)
    return MaskOptions(learner=learner, schedule=schedule, seed=run.split, **_fields_of(MaskOptions, options))


def _fields_of(kind: type[Any], options: dict[str, Any]) -> dict[str, Any]:
    return {f.name: options[f.name] for f in fields(kind) if f.name in options}


def _train(model: nn.Module, data: ImageData, run: Run) -> tuple[float, ...]:
    """Train in place; returns the flips at FLIP_WINDOWS."""
    training = run.training()
    groups = param_groups(model, training.lr, USUAL.weight_decay)
    if training.zero_init:
        for _, _, learner in masked_layers(model):
            nn.init.zeros_(learner.get_parameter("logits"))
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], foreach=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate(training))
    strength = training.activity_strength
    activity = ActivityTarget(model, training.activity, strength) if training.activity else None
    snapshots: list[Tensor] = []
    wanted = {w * training.steps // 12 for first in FLIP_WINDOWS for w in (first, first + 1)}
    model.train()
    for step, batch in enumerate(batches(len(data.train_labels), training.steps, run.split), start=1):
        optimizer.zero_grad()
        reset_neurons(model)
        logits = model(data.train_images[batch])
        loss = F.cross_entropy(logits, data.train_labels[batch], label_smoothing=USUAL.label_smoothing)
        if activity is not None:
            loss = loss + activity.penalty()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        if step in wanted:
            snapshots.append(masks(model))
    if activity is not None:
        activity.remove()
    return tuple(flipped(a, b) for a, b in zip(snapshots[::2], snapshots[1::2], strict=True))


def learning_rate(training: Training) -> Callable[[int], float]:
    """Share of the learning rate at each step: a half cosine, or two."""
    turn = training.restart * training.steps

    def share(step: int) -> float:
        if step < turn:
            return 0.5 + 0.5 * math.cos(math.pi * step / turn)
        scale = training.restart_scale if turn else 1.0
        return scale * (0.5 + 0.5 * math.cos(math.pi * (step - turn) / (training.steps - turn)))

    return share


def batches(count: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Indices of `steps` whole batches, in a new order each time round."""
    generator = torch.Generator().manual_seed(seed)
    done = 0
    while done < steps:
        order = torch.randperm(count, generator=generator)
        for batch in torch.split(order, USUAL.batch_size)[: min(count // USUAL.batch_size, steps - done)]:
            done += 1
            yield batch


def masks(model: nn.Module) -> Tensor:
    """All masks as they would be folded now, in one row; empty for a dense model."""
    found = [torch.zeros(0)]
    for _, layer, learner in masked_layers(model):
        found.append(learner.harden(weight_of(layer).detach()).flatten())
    return torch.cat(found)


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a layer."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def flipped(before: Tensor, after: Tensor) -> float:
    """Share of kept weights that were not kept before."""
    return float((after * (1.0 - before)).sum() / after.sum().clamp_min(1.0))


@torch.no_grad()
def evaluated(model: nn.Module, data: ImageData) -> tuple[float, float, float]:
    """Accuracy, cross-entropy and firing rate on the test part."""
    model.eval()
    reset_neurons(model)
    with _spikes(model) as rates:
        logits = model(data.test_images)
    reset_neurons(model)
    accuracy = float((logits.argmax(-1) == data.test_labels).float().mean())
    return accuracy, float(F.cross_entropy(logits, data.test_labels)), sum(rates) / len(rates)


@contextmanager
def _spikes(model: nn.Module) -> Iterator[list[float]]:
    """Collect the mean of what each layer of neurons emits."""
    rates: list[float] = []
    layers = [module for module in model.modules() if isinstance(module, LIF)]
    handles = [layer.register_forward_hook(lambda _l, _i, out: rates.append(float(out.mean()))) for layer in layers]
    try:
        yield rates
    finally:
        for handle in handles:
            handle.remove()
