"""What cannot be captured or lifted ends in one sentence that names the module, the line and the way out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift
from spikenm_compile.neurons import IF

HERE = r"test_refusals\.py:\d+ "


class Block(nn.Module):
    """A part of a model whose forward is given."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], fc: nn.Module | None = None) -> None:
        super().__init__()
        self.run = forward
        self.fc = fc or nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


class Memory(nn.Module):
    """Keeps what it saw in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.mem: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.mem = 0.5 * self.mem + x
        return self.mem  # type: ignore[no-any-return]


class Growing(nn.Module):
    """Keeps what it saw in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x


def branch(_block: Block, x: Tensor) -> Tensor:
    if x.mean() > 0.5:
        return x
    return 2 * x


def while_loop(block: Block, x: Tensor) -> Tensor:
    while x.max() > 1.0:
        x = block.fc(x)
    return x


def python_number(_block: Block, x: Tensor) -> Tensor:
    return x * x.sum().item()


def steps_from_data(block: Block, x: Tensor) -> Tensor:
    out = x
    for _ in range(int(x.sum())):
        out = block.fc(out)
    return out


def assertion(_block: Block, x: Tensor) -> Tensor:
    assert (x >= 0).all()
    return x


NOT_CAPTURED: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "branch": (branch, r"`if x\.mean\(\) > 0\.5:`"),
    "while": (while_loop, r"`while x\.max\(\) > 1\.0:`"),
    "range": (steps_from_data, r"`for _ in range\(int\(x\.sum\(\)\)\):`"),
    "assert": (assertion, r"`assert \(x >= 0\)\.all\(\)`"),
}


def sentence(error: Exception) -> str:
    text = str(error)
    assert "\n" not in text
    assert text.count("; ") >= 1
    return text


@pytest.mark.parametrize("name", NOT_CAPTURED)
def test_what_depends_on_values_names_module_line_and_way_out(name: str) -> None:
    forward, line = NOT_CAPTURED[name]
    model = nn.Sequential(nn.Linear(8, 8), IF(), nn.Sequential(Block(forward)))
    with pytest.raises(CaptureError) as caught:
        capture(model, torch.rand(3, 2, 8))
    text = sentence(caught.value)
    assert re.search(rf"module '2\.0' \(Block\) at {HERE}{line}", text)
    assert "write the step with tensor operations or with neurons of spikenm_compile.neurons" in text


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Memory(), rf"'1' \(Memory\) changes its attribute 'mem' at {HERE}`self\.mem = 0\.5 \* self\.mem \+ x`;"),
        (Growing(), rf"'1' \(Growing\) changes its attribute 'seen' at {HERE}`self\.seen\.append\(x\)`;"),
    ],
)
def test_unknown_state_names_module_line_and_way_out(module: nn.Module, message: str) -> None:
    with pytest.raises(CaptureError, match=message) as caught:
        capture(nn.Sequential(nn.Linear(8, 8), module, IF()), torch.rand(3, 2, 8))
    assert "keep it in a local variable or in a neuron of spikenm_compile.neurons" in sentence(caught.value)


NOT_LIFTED: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "item": (python_number, r"`return x \* x\.sum\(\)\.item\(\)`: "),
    "unknown operation": (lambda b, x: b.fc(x).cumsum(-1), r"`.*cumsum.*: operation 'cumsum' has no form"),
    "other function": (lambda _, x: torch.fft.rfft(x).abs(), r"`.*rfft.*: operation '.*rfft' has no form"),
    "order": (lambda _, x: x.flip(1), r"`.*flip\(1\).*: operation 'flip' has no form"),
    "index": (lambda _, x: x[:, :, [0, 2]], r"`.*x\[:, :, \[0, 2\]\].*: index .* has no form"),
    "reduction": (lambda _, x: x.mean(1), r"`.*mean\(1\).*: a mean or mean over dimension 1|mean over dimension 1"),
}


@pytest.mark.parametrize("name", NOT_LIFTED)
def test_operations_without_a_step_name_module_line_and_way_out(name: str) -> None:
    forward, message = NOT_LIFTED[name]
    model = nn.Sequential(nn.Linear(8, 8), IF(), nn.Sequential(Block(forward)), IF())
    x = torch.rand(3, 2, 8)
    captured = capture(model, x)
    with pytest.raises(CaptureError) as caught:
        lift(captured, x)
    assert re.search(rf"^in module '2\.0' \(Block\) at {HERE}{message}", sentence(caught.value))


def test_layers_in_a_sequential_have_no_line() -> None:
    x = torch.rand(4, 2, 8)
    captured = capture(nn.Sequential(nn.Linear(8, 8), nn.Sequential(neuron.PSN(4))), x)
    with pytest.raises(CaptureError, match=r"^in module '1\.0' \(PSN\): layer '1\.0': SpikingJelly's PSN has no canon"):
        lift(captured, x)


def test_a_layer_that_the_model_calls_has_the_line_of_the_call() -> None:
    x = torch.rand(3, 2, 8)
    model = nn.Sequential(Block(lambda block, x: block.fc(x, x), nn.Bilinear(8, 8, 8)), IF())
    with pytest.raises(CaptureError, match=rf"^in module '0\.fc' \(Bilinear\) at {HERE}`.*block\.fc\(x, x\)"):
        lift(capture(model, x), x)


@pytest.mark.parametrize("path", ["1", "1.inner"])
def test_slayer_is_refused_before_anything_runs(path: str) -> None:
    class Dense(nn.Module):
        def forward(self, _x: Tensor) -> Tensor:
            raise AssertionError("must not run")

    Dense.__module__ = "lava.lib.dl.slayer.block.cuba"
    model = nn.Sequential(nn.Linear(8, 8), Dense() if path == "1" else nn.Sequential())
    if path != "1":
        model[1].add_module("inner", Dense())
    with pytest.raises(CaptureError, match=rf"module '{path}' \(Dense\) is one of SLAYER \(lava-dl\)") as caught:
        capture(model, torch.rand(2, 8))
    assert "rebuild the network with these neurons" in sentence(caught.value)
