"""Operations on dimensions of each sample, in every layout that time can have around them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapters import reset_states
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift
from spikenm_compile.graph import format_graph, run_steps
from spikenm_compile.neurons import IF, LIF

T, B, N, C = 3, 2, 6, 8
"""Steps, samples, tokens and channels of the examples."""
Form = Callable[[Tensor], Tensor]
POSITIONS = torch.linspace(-1, 1, N * C).reshape(1, N, C)
MATRIX = torch.linspace(-1, 1, C * 4).reshape(C, 4)


def heads(y: Tensor) -> Tensor:
    """[..., N, C] to [..., heads, N, C / heads]."""
    return y.reshape(*y.shape[:-1], 2, C // 2).transpose(-3, -2)


def attention(y: Tensor) -> Tensor:
    q, k, v = heads(y), heads(y * 2), heads(y + 1)
    x = (q @ k.transpose(-2, -1)) * 0.125 @ v
    return x.transpose(-3, -2).reshape(y.shape)


def linear_attention(y: Tensor) -> Tensor:
    q, k, v = y.chunk(2, dim=-1)[0], y.chunk(2, -1)[1], y.narrow(-1, 2, 4)
    return q * (k * v).sum(dim=-2, keepdim=True)


FORMS: dict[str, Form] = {
    "attention": attention,
    "linear attention": linear_attention,
    "softmax attention": lambda y: torch.softmax(y @ y.transpose(-1, -2), dim=-1) @ y,
    "F.softmax": lambda y: F.softmax(y, dim=-1),
    "method softmax": lambda y: y.softmax(-2),
    "torch.matmul": lambda y: torch.matmul(y, torch.transpose(y, -1, -2)),
    "mT": lambda y: y @ y.mT,
    "broadcast matmul": lambda y: heads(y) @ y.transpose(-1, -2).unsqueeze(-3)[..., :4, :],
    "swapaxes": lambda y: y.swapaxes(-1, -2),
    "movedim": lambda y: heads(y).movedim(-3, -1),
    "flatten tokens": lambda y: heads(y).flatten(-3, -2),
    "unflatten channels": lambda y: y.unflatten(-1, (2, 4)),  # type: ignore[no-untyped-call]
    "unsqueeze and squeeze": lambda y: y.unsqueeze(-1).squeeze(-1),
    "view as": lambda y: heads(y).reshape(y.shape),
    "split": lambda y: torch.cat(torch.split(y, 4, dim=-1)[::-1], dim=-1),
    "split unevenly": lambda y: torch.cat(y.split([1, 5], -2), -2),  # type: ignore[no-untyped-call]
    "tensor_split": lambda y: y.tensor_split(3, dim=-2)[1],
    "unbind": lambda y: torch.unflatten(y, -1, (2, 4)).unbind(-2)[1],
    "sum of chunks": lambda y: torch.stack(y.chunk(4, dim=-1)).sum(0),
    "select": lambda y: y.select(-1, 3),
    "index": lambda y: y[..., 3, :],
    "negative index": lambda y: y[..., -1, 2:-1],
    "every other token": lambda y: y[..., 1::2, :],
    "new dimension": lambda y: (y[..., None, :] * y[..., None])[..., 0],
    "stack": lambda y: torch.stack([y, y * 2], dim=-1).sum(-1),
    "stack in the middle": lambda y: torch.stack((y, y + 1), -3).flatten(-3, -2),
    "mean over tokens": lambda y: y.mean(-2),
    "mean over tokens, kept": lambda y: y - torch.mean(y, dim=-2, keepdim=True),
    "mean over both": lambda y: y.mean((-1, -2)),
    "sum": lambda y: y.sum(dim=-1),
    "max": lambda y: y.max(dim=-1, keepdim=True).values * y + torch.max(y, -1, keepdim=True)[0],
    "amax": lambda y: y.amax(-2),
    "roll": lambda y: y.roll(1, -1) + torch.roll(y, (1, 2), (-2, -1)),
    "pad": lambda y: F.pad(y, (1, 0, 0, 2)) + F.pad(y, (1, 0, 0, 2), value=2.0),
    "gate": lambda y: y * y[..., :1] + y[..., :1, :] / 2,
    "positions": lambda y: y + POSITIONS,
    "scale per channel": lambda y: torch.linspace(0, 2, C) * y,
    "constant that widens": lambda y: y[..., :1, :] + POSITIONS,
    "constant matrix": lambda y: y @ MATRIX,
    "constant on the left": lambda y: torch.ones(2, N) @ y,
}


class Multi(nn.Module):
    """The operation between two layers of multi-step neurons, in one of the layouts of time."""

    def __init__(self, form: Form, layout: str = "sequence") -> None:
        super().__init__()
        self.form, self.layout = form, layout
        self.fc = nn.Linear(C, C)
        self.first, self.second = LIF(v_threshold=0.1), IF(v_threshold=0.5, v_reset=None)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(self.fc(x))
        if self.layout == "flat":
            y = torch.unflatten(self.form(y.flatten(0, 1)), 0, x.shape[:2])
        elif self.layout == "batch first":
            y = self.form(y.transpose(0, 1)).transpose(0, 1)
        else:
            y = self.form(y)
        return self.second(y)  # type: ignore[no-any-return]


class Single(nn.Module):
    """The operation in a python loop over time."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        self.fc = nn.Linear(C, C)
        self.first, self.second = LIF(v_threshold=0.1, step_mode="s"), IF(v_threshold=0.5, v_reset=None, step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.second(self.form(self.first(self.fc(x[t])))) for t in range(x.shape[0])])


def make(form: Form, layout: str = "sequence") -> nn.Module:
    torch.manual_seed(0)
    return (Single(form) if layout == "steps" else Multi(form, layout)).eval()


def lifted(model: nn.Module, x: Tensor) -> GraphModule:
    return lift(capture(model, x), x)


@torch.no_grad()
def check(model: nn.Module, *, num_steps: int | None = None) -> GraphModule:
    """Lifted at T steps and B samples, the step graph equals the model at others too."""
    step_graph = lifted(model, torch.rand(T, B, N, C))
    for steps, batch in ((T, B), (num_steps or T + 2, B + 1)):
        x = torch.rand(steps, batch, N, C) * 2
        reset_states(model)
        expected = model(x)
        reset_states(model)
        actual = run_steps(step_graph, x).output
        assert expected.any()
        assert actual.shape == expected.shape
        assert torch.equal(actual, expected)
    return step_graph


@pytest.mark.parametrize("layout", ["sequence", "flat", "batch first", "steps"])
@pytest.mark.parametrize("name", FORMS)
def test_a_step_computes_what_the_model_does(name: str, layout: str) -> None:
    check(make(FORMS[name], layout), num_steps=T if layout == "steps" else None)


LAYERS: dict[str, nn.Module] = {
    "softmax": nn.Softmax(dim=-1),
    "softmax over tokens": nn.Softmax(2),
    "unflatten": nn.Unflatten(3, (2, 4)),
    "flatten": nn.Flatten(-2),
    "flatten tokens and channels": nn.Flatten(2, 3),
    "a step per sample": nn.Sequential(nn.Flatten(0, 1), nn.Unflatten(0, (T, -1))),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_are_functions_of_each_sample(name: str) -> None:
    class Layered(Multi):
        def __init__(self, inside: nn.Module) -> None:
            super().__init__(lambda y: self.inside(y))
            self.inside = inside

    torch.manual_seed(0)
    check(Layered(LAYERS[name]).eval(), num_steps=T)


def test_all_layouts_of_time_give_the_same_step() -> None:
    texts = {format_graph(check(make(attention, layout))) for layout in ("sequence", "flat", "batch first")}
    assert len(texts) == 1
    assert "= matmul(%mul_1, %permute_2)" in texts.pop()


def fused_qkv(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[T, B, N, C] to three [T, B, heads, N, C / heads] by way of [3, T, B, heads, N, C / heads]."""
    qkv = torch.cat([y, y * 2, y + 1], -1).reshape(*y.shape[:3], 3, 2, C // 2).permute(3, 0, 1, 4, 2, 5)
    return qkv[0], qkv.select(0, 1), qkv.unbind(0)[2]


def unpacked_qkv(y: Tensor) -> Tensor:
    q, k, v = torch.stack([y, y * 2, y + 1]).unbind()
    return q @ k.transpose(2, 3) @ v


def heads_meet(y: Tensor) -> Tensor:
    """[T, heads, B, N, C / heads] and [T, 1, B, N, C / heads]."""
    return (torch.unflatten(y, -1, (2, 4)).permute(0, 3, 1, 2, 4) * y[..., :4].unsqueeze(1)).movedim(1, 2)


MOVING: dict[str, Form] = {
    "q, k and v in front": lambda y: fused_qkv(y)[0] @ fused_qkv(y)[1].transpose(-2, -1) @ fused_qkv(y)[2],
    "q, k and v stacked in front": unpacked_qkv,
    "heads before time": lambda y: torch.unflatten(y, -1, (2, 4)).permute(3, 0, 1, 2, 4).sum(-1).permute(1, 2, 0, 3),
    "heads before samples": heads_meet,
    "heads before the time of one": lambda y: (
        torch.unflatten(y, -1, (2, 4)).permute(3, 0, 1, 2, 4) * y[..., :4]
    ).permute(1, 2, 0, 3, 4),
    "samples last": lambda y: (y.permute(0, 2, 3, 1) * 2).softmax(1).permute(0, 3, 1, 2),
    "time last": lambda y: y.permute(1, 2, 3, 0).amax(1, keepdim=True).movedim(-1, 0),
    "time in the middle": lambda y: y.permute(1, 2, 0, 3).softmax(-1).transpose(1, 2).transpose(0, 1),
    "einsum": lambda y: torch.einsum("tbnc,tbmc->tbnm", y, y),
    "einsum of heads": lambda y: torch.einsum("tbhnd,tbhmd->tbhnm", heads(y), heads(y)),
    "einsum with other letters": lambda y: torch.einsum("abcd, abed -> abec", y, y[:, :, 1:]),
    "einsum with samples last": lambda y: torch.einsum("tbnc,tbmc->tnmb", y, y).permute(0, 3, 1, 2),
    "einsum of a list": lambda y: torch.einsum("tbnc,tbnc->tbc", [y, y]),
}


@pytest.mark.parametrize("name", MOVING)
def test_time_and_samples_may_move_and_come_back(name: str) -> None:
    check(make(MOVING[name]))


def test_a_constant_shares_memory_with_its_parameter() -> None:
    class Positioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions = nn.Parameter(torch.rand(1, N, C))
            self.fc, self.lif = nn.Linear(C, C), LIF(v_threshold=0.1)

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(self.fc(x + self.positions) + self.positions.expand(x.shape[1], -1, -1))  # type: ignore[no-any-return]

    model = Positioned().eval()
    step_graph = check(model)
    with torch.no_grad():
        model.positions.mul_(3)
        x = torch.rand(T, 4, N, C)
        reset_states(model)
        assert torch.equal(run_steps(step_graph, x).output, model(x))


def test_a_constant_and_a_batch_of_samples_that_look_alike() -> None:
    """A constant [N, C] with N as large as the batch is one of tokens, not of samples."""
    form: Form = lambda y: y + POSITIONS[0]  # noqa: E731
    x = torch.rand(T, N, N, C)
    model = make(form)
    step_graph = lifted(model, x)
    assert torch.equal(run_steps(step_graph, x).output, model(x))


def test_the_text_shows_every_operation() -> None:
    text = format_graph(lifted(make(FORMS["constant that widens"]), torch.rand(T, B, N, C)))
    assert "%sliced: [B, 1, 8] = slice(%getitem, 1, 0, 1, 1)" in text
    assert "%constant_0: [B, 6, 8] = Constant[constant_0](%sliced) {[6, 8]}" in text
    assert "%add: [B, 6, 8] = add(%sliced, %constant_0)" in text


REFUSED: dict[str, tuple[Form, str]] = {
    "softmax over time": (lambda y: y.softmax(0), "softmax over dimension 0 of .* combines time steps; a step graph"),
    "softmax over samples": (lambda y: y.softmax(1), "softmax over dimension 1 of .* combines samples"),
    "mean over samples": (lambda y: y - y.mean(1, keepdim=True), "mean over dimension 1 of"),
    "mean over everything": (lambda y: y - y.mean(), "mean over dimension None of"),
    "attention over time": (
        lambda y: (y.permute(1, 2, 0, 3) @ y.permute(1, 2, 3, 0)).permute(2, 0, 1, 3),
        "matmul over dimension -2 of .* combines time steps",
    ),
    "chunk of time": (lambda y: y.chunk(3)[0], "chunk over dimension 0 of .* combines time steps"),
    "layer over time": (nn.Softmax(0), "softmax over dimension 0 of .* combines time steps"),
    "softmax over what": (nn.Softmax(), "operation 'softmax' is called with arguments that have no form"),
    "layer through samples": (nn.Flatten(1, 2), "flatten from .* mixes samples or time"),
    "part of time": (lambda y: y[:2], "the slice :2: over dimension 0 of .* combines time steps"),
    "part of the samples": (lambda y: y[:, 1:], "the slice 1:: over dimension 1 of .* combines samples"),
    "one sample": (lambda y: y[:, 0], "index 0 in dimension 1 has no form"),
    "some tokens": (lambda y: y[:, :, [0, 2]], r"index .*\[0, 2\].* has no form"),
    "cat of samples": (lambda y: torch.cat([y, y], 1), "cat over dimension 1 of .* combines samples"),
    "cat with a constant": (lambda y: torch.cat([y, torch.ones(T, B, 1, C)], 2), "cat takes a constant"),
    "cat of other layouts": (
        lambda y: torch.cat([y[:, :, :B], y[:, :, :B].permute(0, 2, 1, 3)], -1),
        r"cat takes values \[3, 2, 2, 8\], \[3, 2, 2, 8\] that have time or samples in different dimensions",
    ),
    "roll through samples": (lambda y: y.roll(1, 1), "roll over dimension 1 of .* combines samples"),
    "pad of samples": (lambda y: F.pad(y, (0, 0, 0, 0, 0, 1)), "pad over dimension -3 of .* combines samples"),
    "reshape through samples": (
        lambda y: y.reshape(T, B * N, C).unsqueeze(1),
        r"reshape from \[3, 2, 6, 8\] to \[3, 12, 8\] mixes samples or time with other dimensions",
    ),
    "samples in the middle": (lambda y: y.permute(0, 2, 1, 3), r"value \[3, 6, 2, 8\] with the samples in dimension 2"),
    "samples meet tokens": (
        lambda y: y[:, :, :B] + y[:, :, :B].transpose(1, 2),
        "'add' broadcasts .* meet another dimension",
    ),
    "constant for each step": (lambda y: y + torch.rand(T, 1, 1, C), "constant .* has another value for each time st"),
    "constant for each sample": (lambda y: y + torch.rand(B, 1, C), "constant .* has another value for each sample"),
    "constant of more dimensions": (lambda y: y + torch.rand(2, T, B, N, C), "has more dimensions than the value"),
    "arithmetic with a complex number": (lambda y: y * 1j, "arithmetic with a complex has no form"),
    "einsum over time": (lambda y: torch.einsum("tbnc,tbnd->bcd", y, y), "sums over samples or time"),
    "einsum of all samples": (lambda y: torch.einsum("tbnc,tanc->tban", y, y), "combines each sample with all others"),
    "einsum of time and tokens": (
        lambda y: torch.einsum("tbnc,nbtc->tbnc", y[:, :, :T], y[:, :, :T]),
        "uses 'n' for time or samples in",
    ),
    "einsum without a result": (lambda y: torch.einsum("tbnc,tbnc", y, y), "einsum 'tbnc,tbnc' has no form"),
    "einsum of a constant": (lambda y: torch.einsum("tbnc,cd->tbnd", y, MATRIX), "einsum .* has no form"),
}


@pytest.mark.filterwarnings("ignore:Implicit dimension choice for softmax")
@pytest.mark.parametrize("name", REFUSED)
def test_what_mixes_steps_or_samples_is_refused(name: str) -> None:
    form, message = REFUSED[name]
    x = torch.rand(T, B, N, C)
    captured = capture(make(form), x)
    with pytest.raises(CaptureError, match=message):
        lift(captured, x)
