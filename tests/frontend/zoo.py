"""Models in all the forms in which people write spiking networks: what capture and lift must read."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from spikenm_compile.neurons import IF, LIF, ParametricLIF


def node(kind: str = "LIFNode", **options: Any) -> nn.Module:
    made: nn.Module = getattr(neuron, kind)(surrogate_function=surrogate.ATan(), detach_reset=True, **options)
    return made


def csnn_layers() -> nn.Sequential:
    return nn.Sequential(
        layer.Conv2d(2, 8, 3, padding=1, bias=False),
        layer.BatchNorm2d(8),
        node("IFNode", v_threshold=0.4),
        layer.MaxPool2d(2),
        layer.Conv2d(8, 8, 3, padding=1),
        node("LIFNode", v_reset=None, v_threshold=0.1),
        layer.AvgPool2d(2),
        layer.Flatten(),
        layer.Dropout(0.5),
        layer.Linear(32, 10),
        node("ParametricLIFNode", v_threshold=0.05),
    )


class JellyRepeated(nn.Module):
    """SpikingJelly, multi-step, static image repeated in forward."""

    def __init__(self, num_steps: int = 4, how: str = "repeat", readout: str = "mean") -> None:
        super().__init__()
        self.num_steps, self.how, self.readout = num_steps, how, readout
        self.layers = csnn_layers()
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "repeat":
            x = x.unsqueeze(0).repeat(self.num_steps, 1, 1, 1, 1)
        elif self.how == "repeat-5":
            x = x.repeat(self.num_steps, 1, 1, 1, 1)
        elif self.how == "expand":
            x = x.expand(self.num_steps, *x.shape)
        else:
            x = torch.stack([x] * self.num_steps)
        return read_out(self.layers(x), self.readout)


def read_out(x: Tensor, how: str) -> Tensor:
    readouts: dict[str, Callable[[Tensor], Tensor]] = {
        "mean": lambda y: y.mean(0),
        "mean-dim": lambda y: torch.mean(y, dim=0),
        "sum": lambda y: y.sum(dim=0),
        "sum-over-T": lambda y: y.sum(0) / y.shape[0],
        "last": lambda y: y[-1],
        "max": lambda y: y.max(0)[0],
        "max-values": lambda y: torch.max(y, dim=0).values,
        "amax": lambda y: y.amax(0),
        "all": lambda y: y,
    }
    return readouts[how](x)


class JellySequence(nn.Module):
    """SpikingJelly, multi-step, input [T, B, ...]."""

    def __init__(self, readout: str = "mean") -> None:
        super().__init__()
        self.readout = readout
        self.layers = csnn_layers()
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        return read_out(self.layers(x), self.readout)


class JellyEncodedOnce(nn.Module):
    """Convolution before the repeat, SeqToANNContainer after it."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.spike = node("IFNode", v_threshold=0.3, step_mode="m")
        self.block = layer.SeqToANNContainer(
            nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.out = node("LIFNode", v_threshold=0.02, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        x = self.encode(x)
        x = self.spike(x.unsqueeze(0).repeat(4, 1, 1, 1, 1))
        return self.out(self.block(x)).mean(0)  # type: ignore[no-any-return]


class JellySingleStep(nn.Module):
    """SpikingJelly, single-step, python loop over time."""

    def __init__(self, form: str, num_steps: int = 4) -> None:
        super().__init__()
        self.form, self.num_steps = form, num_steps
        self.layers = csnn_layers()

    def forward(self, x: Tensor) -> Any:
        out: Any = 0
        if self.form == "plus-equals":
            for _ in range(self.num_steps):
                out += self.layers(x)
            return out / self.num_steps
        if self.form == "first-then-plus":
            out = self.layers(x)
            for _ in range(1, self.num_steps):
                out += self.layers(x)
            return out / self.num_steps
        if self.form == "last":
            for _ in range(self.num_steps):
                out = self.layers(x)
            return out
        if self.form == "maximum":
            out = self.layers(x)
            for _ in range(1, self.num_steps):
                out = torch.maximum(out, self.layers(x))
            return out
        outs = [self.layers(x) for _ in range(self.num_steps)]
        if self.form == "builtin-sum":
            return sum(outs) / len(outs)
        return read_out(torch.stack(outs), self.form.removeprefix("stack-"))


class JellyEachStep(nn.Module):
    """SpikingJelly, single-step, input [T, B, ...] taken step by step."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.layers = csnn_layers()

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "range-shape":
            return torch.stack([self.layers(x[t]) for t in range(x.shape[0])]).mean(0)
        if self.form == "iterate":
            return torch.stack([self.layers(x_t) for x_t in x]).sum(0)
        if self.form == "zeros":
            out = x.new_zeros(x.shape[1], 10)
            for t in range(len(x)):
                out = out + self.layers(x[t])
            return out
        multi: Tensor = functional.multi_step_forward(x, self.layers)
        return multi.mean(0)


class OwnSingleStep(nn.Module):
    """Hand-written, functional pooling and dropout, reset inside forward."""

    def __init__(self, num_steps: int = 5) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.conv = nn.Conv2d(2, 8, 3)
        self.lif1 = LIF(2.5, v_threshold=0.2, decay_input=False, step_mode="s")
        self.fc = nn.Linear(32, 10)
        self.lif2 = ParametricLIF(v_threshold=0.05, v_reset=-0.1, step_mode="s")

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        self.lif1.reset()
        functional.reset_net(self)
        spikes = []
        for _ in range(self.num_steps):
            h = F.max_pool2d(self.lif1(self.conv(x) * scale), 3)
            h = F.dropout(h.flatten(1), 0.3, self.training)
            spikes.append(self.lif2(self.fc(h)))
        return torch.stack(spikes, dim=1).sum(dim=1)


class OwnMultiStep(nn.Module):
    """Hand-written, multi-step, time moved into the batch with flatten and view."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.lif1 = IF(v_threshold=0.4, v_reset=None)
        self.fc = nn.Linear(128, 10)
        self.lif2 = LIF(2.0, v_threshold=0.1)

    def forward(self, x: Tensor) -> Tensor:
        num_steps, batch, c, h, w = x.shape
        y = self.norm(self.conv(x.view(num_steps * batch, c, h, w)))
        y = self.lif1(y.view(num_steps, batch, *y.shape[1:]))
        return self.lif2(self.fc(torch.flatten(y, 2))).mean(dim=0)  # type: ignore[no-any-return]


class SewBlock(nn.Module):
    """Residual block of SEW-ResNet."""

    def __init__(self, join: str) -> None:
        super().__init__()
        self.join = join
        self.stem = nn.Sequential(
            layer.Conv2d(2, 8, 3, padding=1), layer.BatchNorm2d(8), node("IFNode", v_threshold=0.3)
        )
        self.branch = nn.Sequential(layer.Conv2d(8, 8, 3, padding=1), layer.BatchNorm2d(8), node(v_threshold=0.1))
        self.head = nn.Sequential(layer.AdaptiveAvgPool2d((1, 1)), layer.Flatten(), layer.Linear(8, 10))
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.branch(x)
        joined = {"ADD": lambda: x + y, "AND": lambda: x * y, "IAND": lambda: x * (1.0 - y)}[self.join]()
        return self.head(joined).mean(0)  # type: ignore[no-any-return]


Case = tuple[Callable[[], nn.Module], bool, int | None]
"""(makes the model, whether its input is [T, B, ...], T if the model fixes it)."""

ZOO: dict[str, Case] = {
    **{
        f"repeated-{how}": (partial(JellyRepeated, 4, how), False, 4)
        for how in ("repeat", "repeat-5", "expand", "stack")
    },
    **{
        f"sequence-{how}": (partial(JellySequence, how), True, None)
        for how in ("mean", "mean-dim", "sum", "sum-over-T", "last", "max", "max-values", "amax", "all")
    },
    "encoded-once": (JellyEncodedOnce, False, 4),
    **{
        f"loop-{form}": (partial(JellySingleStep, form), False, 4)
        for form in (
            "plus-equals",
            "first-then-plus",
            "last",
            "maximum",
            "builtin-sum",
            "stack-mean",
            "stack-sum",
            "stack-last",
            "stack-all",
        )
    },
    **{
        f"each-step-{form}": (partial(JellyEachStep, form), True, None)
        for form in ("range-shape", "iterate", "zeros", "multi-step-forward")
    },
    "own-single-step": (OwnSingleStep, False, 5),
    "own-multi-step": (OwnMultiStep, True, None),
    **{f"sew-{join}": (partial(SewBlock, join), True, None) for join in ("ADD", "AND", "IAND")},
}


def make(name: str) -> tuple[nn.Module, Tensor]:
    """Model with settled batch norms, in train mode and reset, and an example input with two samples."""
    torch.manual_seed(0)
    build, per_step, _ = ZOO[name]
    model, x = build(), example(name, batch=2)
    if not per_step or name.startswith(("sequence", "sew", "own")):
        with torch.no_grad():
            for _ in range(5):
                model(x)
                functional.reset_net(model)
    return model, x


def example(name: str, batch: int, num_steps: int = 4) -> Tensor:
    """Random input of the model."""
    shape = (2, 8, 8)
    return torch.rand(num_steps, batch, *shape) * 3 if ZOO[name][1] else torch.rand(batch, *shape) * 3


@contextmanager
def spikingjelly_models() -> Iterator[Any]:
    """SpikingJelly's model package, with the one name of torchvision that it imports."""
    stub = types.ModuleType("torchvision.models.utils")
    stub.load_state_dict_from_url = None  # type: ignore[attr-defined]
    names = ("torchvision", "torchvision.models", "torchvision.models.utils")
    added = {name: types.ModuleType(name) for name in names[:2]} | {names[2]: stub}
    for name in names:
        sys.modules.setdefault(name, added[name])
    try:
        from spikingjelly.activation_based.model import sew_resnet, spiking_vgg

        yield types.SimpleNamespace(sew_resnet=sew_resnet, spiking_vgg=spiking_vgg)
    finally:
        for name in names:
            if sys.modules.get(name) is added[name]:
                del sys.modules[name]
