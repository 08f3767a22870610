"""Which layers of PyTorch a step graph takes, and which values in time each of them computes step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.values import Sequence, Value, describe

POOLS: dict[str, type[nn.Module]] = {
    f"{function}{n}d": getattr(nn, f"{kind}{n}d")
    for n in (1, 2, 3)
    for function, kind in (
        ("max_pool", "MaxPool"),
        ("avg_pool", "AvgPool"),
        ("adaptive_avg_pool", "AdaptiveAvgPool"),
        ("adaptive_max_pool", "AdaptiveMaxPool"),
    )
}
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
}
"""Function or method -> the layer that computes the same."""
HIDDEN_NAMES = {getattr(F, name): name for name in POOLS if "max_pool" in name}
"""Functions whose name torch hides behind a dispatcher -> that name."""

Ranks = range | tuple[int, ...]
Shape = tuple[int, ...]
_ANY_RANK = range(2, 100)


@dataclass(frozen=True)
class LayerRule:
    """What a layer takes for one sample."""

    ranks: Ranks = _ANY_RANK
    """Number of dimensions of its input [N, ...]."""
    last: int | Callable[[nn.Module], int] | None = None
    """Number of last dimensions that it computes with, where it leaves all others alone; None: N is the first."""


def _normalized(module: nn.Module) -> int:
    shape = module.normalized_shape
    assert isinstance(shape, tuple)
    return len(shape)


_DIMENSIONS = (1, 2, 3)


def _batched(*kinds: str) -> dict[type[nn.Module], LayerRule]:
    """Rules of `<kind>1d`, `2d` and `3d` of inputs [N, C, ...]."""
    return {getattr(nn, f"{kind}{n}d"): LayerRule((n + 2,)) for kind in kinds for n in _DIMENSIONS}


LAYER_RULES: dict[type[nn.Module], LayerRule] = {
    **_batched("Conv", "ConvTranspose", "InstanceNorm"),
    nn.Linear: LayerRule(last=1),
    nn.BatchNorm1d: LayerRule((2, 3)),
    nn.BatchNorm2d: LayerRule((4,)),
    nn.BatchNorm3d: LayerRule((5,)),
    nn.GroupNorm: LayerRule(),
    nn.LayerNorm: LayerRule(last=_normalized),
    nn.RMSNorm: LayerRule(last=_normalized),
    **{
        kind: LayerRule((n + 1, n + 2), last=n)
        for name, kind in POOLS.items()
        for n in _DIMENSIONS
        if name.endswith(f"{n}d")
    },
    nn.Upsample: LayerRule(range(3, 6)),
    nn.Flatten: LayerRule(range(1, 100)),
    **dict.fromkeys(ACTIVATIONS.values(), LayerRule(last=0)),
}
"""Layer of PyTorch -> what it takes. All compute each sample by itself in eval mode."""


def rule_of(layer: nn.Module | None) -> LayerRule | None:
    """The rule of a plain layer; None: a step graph does not take it."""
    return None if getattr(layer, "return_indices", False) else LAYER_RULES.get(type(layer))  # type: ignore[arg-type]


def without_side_effects(layer: nn.Module) -> nn.Module:
    """`layer` as a step graph calls it; that it changes its input in place is `TimeLifter`'s to see."""
    if hasattr(layer, "inplace"):
        layer.inplace = False  # type: ignore[assignment]
    return layer


def check_layout(name: str, plain: nn.Module, value: Value, shape: Shape, *, multi_step: bool) -> None:
    """Check that the layer, as the user wrote it, computes each step by itself on a value of this layout.

    Args:
        name: the user's name of the layer.
        plain: the single-step layer.
        value: its input in time.
        shape: of one step of the input, [B, ...].
        multi_step: whether the user's layer takes a sequence [T, B, ...] and goes through it step by step.

    Raises:
        CaptureError: it would mix steps or samples.
    """
    rule = LAYER_RULES[type(plain)]
    time_dim = value.dim if isinstance(value, Sequence) else None
    if rule.last is not None:
        last = rule.last if isinstance(rule.last, int) else rule.last(plain)
        if last >= len(shape) or (time_dim is not None and time_dim > len(shape) - last):
            raise CaptureError(
                f"layer '{name}' ({type(plain).__name__}) computes over the last {last} dimensions, which hold time or "
                "the batch; a step knows its own value of each sample only; read out over time after the last neuron"
            )
    elif time_dim not in (None, 0) and not isinstance(plain, nn.Flatten):
        raise CaptureError(
            f"layer '{name}' ({type(plain).__name__}) gets a sequence with time in dimension {time_dim} and so "
            "combines time steps; a step graph computes each step by itself; flatten time into the batch before the "
            "layer, or compile the model without it"
        )
    elif not _leaves_time_alone(plain, time_dim, multi_step=multi_step):
        wanted = "a sequence [T, B, ...]" if multi_step else "one step [B, ...], or T steps as [T*B, ...]"
        raise CaptureError(
            f"layer '{name}' ({type(plain).__name__}) gets {describe(value)}; it takes {wanted}; set its step_mode, or "
            "flatten time into the batch with x.flatten(0, 1)"
        )
    if len(shape) not in rule.ranks:
        ranks = " or ".join(map(str, rule.ranks))
        raise CaptureError(
            f"layer '{name}' ({type(plain).__name__}) gets {len(shape)} dimensions {list(shape)} for each step; it "
            f"takes {ranks}, the batch first; give it such an input"
        )


def _leaves_time_alone(plain: nn.Module, time_dim: int | None, *, multi_step: bool) -> bool:
    """Whether time is where a layer that takes samples [N, ...] leaves it alone."""
    if not isinstance(plain, nn.Flatten):
        return time_dim == (0 if multi_step else None)
    start = 2 if time_dim is not None and not multi_step else 1
    fits = plain.start_dim == start and plain.end_dim == -1
    return fits and time_dim in ((0, 1) if start == 2 else (0,) if multi_step else (None,))
