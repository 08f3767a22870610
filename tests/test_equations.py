"""The language of neurons: what it reads, what it refuses, and what each operation computes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import neuron_kinds
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from spikenm_compile.equations import Apply, Evaluator, Name, Number, parse
from spikenm_compile.errors import InputError
from spikenm_compile.neurons import Levels, Neuron, SpikingNeuron, leaky, step
from spikenm_compile.neurons.torch_algebra import TorchAlgebra

SPECIAL = [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -2.5, 1e-45, -1e-45, 3e38, -3e38, float("inf"), -float("inf"), float("nan")]
FloatArray = npt.NDArray[np.float32]


def evaluate(text: str, **values: Tensor | float) -> Tensor:
    """The value of an expression."""
    found = Evaluator(TorchAlgebra())(parse(f"y = {text}").expression, values)
    return torch.as_tensor(found)


OPERATIONS: dict[str, Callable[[FloatArray, FloatArray], Any]] = {
    "-a": lambda a, b: -a,
    "a + b": lambda a, b: a + b,
    "a - b": lambda a, b: a - b,
    "a * b": lambda a, b: a * b,
    "a / b": lambda a, b: a / b,
    "a > b": lambda a, b: a > b,
    "a >= b": lambda a, b: a >= b,
    "a < b": lambda a, b: a < b,
    "a <= b": lambda a, b: a <= b,
    "a == b": lambda a, b: a == b,
    "a != b": lambda a, b: a != b,
    "where(a, b, a)": lambda a, b: np.where(a != 0, b, a),
    "max(a, b)": lambda a, b: np.where(a > b, a, b),
    "min(a, b)": lambda a, b: np.where(a < b, a, b),
    "round(a)": lambda a, b: np.rint(a),
    "trunc(a)": lambda a, b: np.trunc(a),
    "abs(a)": lambda a, b: np.abs(a),
}


@pytest.mark.parametrize("text", OPERATIONS)
def test_operations_equal_numpy_on_tensors_and_on_numbers(text: str) -> None:
    numbers = np.concatenate([np.array(SPECIAL), np.random.default_rng(0).normal(size=20)]).astype(np.float32)
    a, b = (grid.ravel() for grid in np.meshgrid(numbers, numbers))
    with np.errstate(all="ignore"):
        expected = OPERATIONS[text](a, b).astype(np.float32)
    actual = evaluate(text, a=torch.from_numpy(a), b=torch.from_numpy(b))
    assert actual.dtype is torch.float32
    np.testing.assert_array_equal(actual.numpy(), expected)
    folded = [float(evaluate(text, a=float(p), b=float(q))) for p, q in zip(a, b, strict=True)]
    np.testing.assert_array_equal(np.array(folded, np.float32), expected)


@pytest.mark.parametrize(("text", "function"), [("exp(a)", torch.exp), ("sigmoid(a)", torch.sigmoid)])
def test_inexact_operations(text: str, function: Callable[[Tensor], Tensor]) -> None:
    a = torch.linspace(-5, 5, 11)
    assert torch.equal(evaluate(text, a=a), function(a))
    torch.testing.assert_close(evaluate(text, a=0.3), function(torch.tensor(0.3)), check_dtype=False)
    assert torch.equal(evaluate("log(a)", a=a.abs() + 1), torch.log(a.abs() + 1))
    assert float(evaluate("log(a)", a=1.0)) == 0.0


def test_order_is_that_of_the_text() -> None:
    x, v = torch.randn(2, 10000, dtype=torch.float32)
    assert torch.equal(evaluate("v + x - v", x=x, v=v), (v + x) - v)
    assert not torch.equal(evaluate("v + x - v", x=x, v=v), evaluate("v + (x - v)", x=x, v=v))
    assert torch.equal(evaluate("x / 1.7 * 3", x=x), (x / 1.7) * 3)
    assert not torch.equal(evaluate("x / 1.7 * 3", x=x), evaluate("x * (3 / 1.7)", x=x))


def test_numbers_alone_are_computed_in_float32() -> None:
    assert float(evaluate("0.1 + 0.2")) == float(np.float32(0.1) + np.float32(0.2)) != 0.1 + 0.2
    x = torch.randn(1000)
    expected = x * torch.tensor(float(np.float32(0.1) * np.float32(0.7)))
    assert torch.equal(evaluate("(dt * tm) * x", dt=0.1, tm=0.7, x=x), expected)


def test_a_constant_condition_chooses() -> None:
    x = torch.randn(3)
    assert torch.equal(evaluate("where(c, x, -x)", c=0.0, x=x), -x)
    assert torch.equal(evaluate("where(c, x, -x)", c=2.0, x=x), x)


def test_trees() -> None:
    expected = Apply("subtract", (Apply("above", (Name("b"), Name("a"))), Number(0.5)))
    assert parse("y = (a < b) - .5").expression == expected
    assert parse(" y = (a < b) - .5 ").text == "y = (a < b) - .5"


REFUSED = [
    ("h = v ** 2", r"column 5: `v \*\* 2` is not supported; an equation is `name = expression`"),
    ("h = v +", "cannot be read at column 8"),
    ("h = v; s = v", "is not one equation at column 1"),
    ("h += v", "is not one equation"),
    ("h == v", "is not one equation"),
    ("a = b = v", "is not one equation"),
    ("a, b = v", r"column 1: `a, b` is no name for a value"),
    ("max = v", "column 1: `max` is no name for a value"),
    ("h = x if x else v", "column 5: `x if x else v` is not supported"),
    ("h = 1 < x < 2", "column 5: `1 < x < 2` is not supported"),
    ("h = x and v", "`x and v` is not supported"),
    ("h = x in v", "`x in v` is not supported"),
    ("h = +x", r"`\+x` is not supported"),
    ("h = not x", "`not x` is not supported"),
    ("h = x + True", "column 9: `True` is not supported"),
    ("h = 'a'", "`'a'` is not supported"),
    ("h = 1j", "`1j` is not supported"),
    ("h = 1e39", "`1e39` is not supported"),
    ("h = x.y", "`x.y` is not supported"),
    ("h = x[0]", r"`x\[0\]` is not supported"),
    ("h = exec(x)", r"`exec\(x\)` is not supported"),
    ("h = x.exp()", r"`x.exp\(\)` is not supported"),
    ("h = v + max", "column 9: `max` is a function and needs its arguments"),
    ("h = max(x)", r"column 5: `max\(x\)` does not have the 2 arguments that it takes"),
    ("h = abs(x, v)", r"`abs\(x, v\)` does not have the 1 argument that"),
    ("h = max(x, v, key=x)", "is not supported"),
    ("h = max(*x)", r"does not have the 2 arguments"),
    ("h = (y := x)", r"`y := x` is not supported"),
    ("h = v + " + "x" * 300, "308 characters, or some beyond ASCII; at most 240"),
    ("h = τ", "beyond ASCII"),
    ("h = x\0", "cannot be read at column 1"),
    ("h = " + "(" * 230, "cannot be read"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text[:20] for text, _ in REFUSED])
def test_all_else_is_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as found:
        parse(text)
    assert "\n" not in str(found.value)


def test_the_deepest_equation_is_computed() -> None:
    assert torch.equal(evaluate("-" * 230 + "x", x=torch.ones(1)), torch.ones(1))


S, V = "s = v > 1", {"v": 0.0}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"equations": (), "states": V}, "a neuron has 0 equations; 1 to 64 are supported"),
    ({"equations": ("v = v + y", S), "states": V}, "'v = v [+] y', which reads the unknown 'y'; known there are v, x;"),
    ({"equations": ("v = v + h", "h = x", S), "states": V}, "reads the unknown 'h'"),
    ({"equations": ("v = x", "v = v + x", S), "states": V}, "'v = v [+] x', which assigns 'v' again"),
    ({"equations": ("x = v", "v = x", S), "states": V}, "'x = v', which assigns 'x' again"),
    ({"equations": ("tau = x", "v = x", S), "states": V, "constants": {"tau": 2}}, "assigns 'tau' again"),
    ({"equations": (S,), "states": V}, "no equation of 'v'; each state and the output have one"),
    ({"equations": ("v = x",), "states": V}, "no equation of 's'"),
    ({"equations": ("v = x", S), "states": V, "constants": {"v": 1.0}}, "'v' with two meanings"),
    ({"equations": ("v = x", S), "states": V, "constants": {"x": 1.0}}, "'x' with two meanings"),
    ({"equations": ("v = x", S), "states": V, "inputs": ("x", "x")}, "'x' with two meanings"),
    ({"equations": ("v = x", S), "states": V, "inputs": ("x", "v")}, "'v' with two meanings"),
    ({"equations": ("v = v", S), "states": V, "inputs": ()}, r"the inputs \(\); one name or several are supported"),
    ({"equations": ("v = v", S), "states": V, "inputs": ("a b",)}, r"the inputs \('a b',\); one name or several"),
    (
        {"equations": ("v = v + x", S), "states": V, "inputs": ("a", "b")},
        "unknown 'x'; known there are a, b, v",
    ),
    ({"equations": ("v = 1", S), "states": V, "inputs": ("a", "b")}, "the output depend on a or b or on a state"),
    ({"equations": ("v = x", S), "states": {**V, "max": 0.0}}, "'max' with two meanings"),
    ({"equations": ("v = 1", "s = x > 1"), "states": V}, "'v', which never changes; states and the output depend on x"),
    ({"equations": ("v = x", "s = 2 > 1"), "states": V}, "'s', which never changes"),
    ({"equations": ("v = x", S), "states": {"v": float("nan")}}, "state 'v' of a neuron is nan; numbers of float32"),
    ({"equations": ("v = x", S), "states": V, "constants": {"c": 1e39}}, r"constant 'c' of a neuron is 1e\+39"),
    ({"equations": ("v = x", S), "states": V, "constants": {"c": ()}}, "constant 'c' of a neuron has no values"),
    ({"equations": ("v = x", S), "states": V, "levels": Levels(0, 1, 0.5)}, "an output of spikes × 0.5; whole numbers"),
    ({"equations": ("v = x", S), "states": V, "levels": Levels(0, 256)}, "an output of 0..256; whole numbers 0..255"),
    ({"equations": ("v = x", S), "states": V, "levels": Levels(-129, 1)}, "an output of -129..1; whole numbers"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_equations_that_make_no_neuron(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as found:
        Neuron(**arguments)
    assert "\n" not in str(found.value)


PROVED = [
    ("x > 1", 0, 1),
    ("where(x > 1, 0, x == 2)", 0, 1),
    ("(x > 1) * (v > 1)", 0, 1),
    ("(x > 1) - (x < -1)", -1, 1),
    ("1 - (x > 1)", 0, 1),
    ("-(x > 1)", -1, 0),
    ("abs((x > 1) - (x < -1))", 0, 1),
    ("max(min(trunc(x), 5), 0)", 0, 5),
    ("min(max(round(x), -3), 7)", -3, 7),
    ("round(max(min(x, 4.4), 0))", 0, 4),
    ("trunc(max(min(x, 4.9), -0.5))", 0, 4),
    ("(x > 0) * max(min(trunc(x / 0.3), 255), 0)", 0, 255),
    ("(x > 1) * gain", 0, 3),
    ("(x > c) + (v > c)", 0, 2),
]


@pytest.mark.parametrize(("text", "low", "high"), PROVED)
def test_levels_are_proved(text: str, low: int, high: int) -> None:
    parts: dict[str, Any] = {"states": {"v": 0.0}, "constants": {"gain": (1.0, 3.0), "c": 0.3}}
    Neuron((f"s = {text}", "v = x"), **parts, levels=Levels(low, high))
    for narrower in (Levels(low + 1, high), Levels(low, high - 1)):
        if narrower.low <= narrower.high:
            with pytest.raises(InputError, match=r"an output 's' of whole numbers in .* it is said to be"):
                Neuron((f"s = {text}", "v = x"), **parts, levels=narrower)


NOT_PROVED = [
    "trunc(x)",
    "max(0, trunc(x))",
    "min(5, max(0, trunc(x)))",
    "max(min(x, 5), 0)",
    "(x > 1) * 0.5",
    "(x > 1) * trunc(x)",
    "v",
    "(x > 1) / 1",
    "sigmoid(x)",
    "exp(x > 1)",
    "round(x) - round(x)",
    "(x > 1) * big - big",
]


@pytest.mark.parametrize("text", NOT_PROVED)
def test_levels_that_do_not_hold_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"an output 's' of .*; it is said to be 0..255: emit a comparison, a count"):
        Neuron((f"s = {text}", "v = x"), {"v": 0.0}, {"big": 2.0**24 + 2}, levels=Levels(0, 255))


def test_not_a_number_never_leaves_the_levels() -> None:
    neuron = neuron_kinds.many_spikes(1)
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e38])
    out, _ = step(x, [torch.zeros(4)], neuron)
    assert out.tolist() == [5.0, 5.0, 0.0, 5.0]


def test_a_state_is_old_until_its_equation_and_new_after() -> None:
    equations = ("before = v", "v = v + x", "s = (v > 2) - (before > 2)", "w = before")
    neuron = Neuron(equations, {"w": 7.0, "v": 0.0}, levels=Levels(-1, 1))
    out, after = step(torch.tensor([2.0]), [torch.tensor([7.0]), torch.tensor([1.5])], neuron)
    assert [float(out), *map(float, after)] == [1.0, 1.5, 3.5]
    by_name = step(torch.tensor([2.0]), {"v": torch.tensor([1.5]), "w": torch.tensor([7.0])}, neuron)
    assert torch.equal(by_name[0], out)


def test_constants_per_channel_run_along_dimension_1() -> None:
    neuron = Neuron(("v = beta * v + x", S), {"v": 1.0}, {"beta": (0.1, 0.5, 0.9)})
    for shape in ((2, 3), (2, 3, 4), (2, 3, 4, 5)):
        _, (v,) = step(torch.zeros(shape), [torch.ones(shape)], neuron)
        assert torch.equal(v.transpose(0, 1).flatten(1)[:, 0], torch.tensor([0.1, 0.5, 0.9]))
    for wrong in ([3, 4], [3]):
        with pytest.raises(InputError, match=r"3 values of 'beta', one for each channel, and gets a current of shape"):
            step(torch.zeros(wrong), [torch.zeros(wrong)], neuron)


def test_several_inputs_are_added_in_the_order_of_the_text() -> None:
    neuron = neuron_kinds.two_inputs(3)
    x, rec, v = torch.randn(3, 64, 3)
    _, (after,) = step((x, rec), [v], neuron)
    beta, th = torch.tensor(0.8), torch.tensor(neuron_kinds.over_channels(0.4, 0.9, 3))
    h, other = (beta * v + x) + rec, beta * v + (x + rec)
    assert torch.equal(after, h - (h > th).float() * th)
    assert not torch.equal(after, other - (other > th).float() * th)


@pytest.mark.parametrize("shapes", [[(2, 3)], [(2, 3), (2, 1)], [(2, 3), (2, 3), (2, 3)]], ids=str)
def test_inputs_that_do_not_fit_are_refused(shapes: list[tuple[int, ...]]) -> None:
    neuron, inputs = neuron_kinds.two_inputs(3), [torch.zeros(shape) for shape in shapes]
    wanted = "it takes one for each of x, rec, all of one shape; give 2"
    with pytest.raises(InputError, match=wanted):
        step(inputs, [torch.zeros(2, 3)], neuron)
    with pytest.raises(InputError, match=wanted):
        SpikingNeuron(neuron)(*(x[None] for x in inputs))


def test_a_single_value_per_channel_is_a_number() -> None:
    assert Neuron(("v = b * x", S), V, {"b": (0.5,)}) == Neuron(("v = b * x", S), V, {"b": 0.5})


def test_neurons_are_values() -> None:
    for kind in (*neuron_kinds.SPIKING, *neuron_kinds.COUNTING, *neuron_kinds.REAL):
        neuron = kind(5)
        for other in (kind(5), copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
            assert other == neuron
            assert hash(other) == hash(neuron)
            assert str(other) == str(neuron)
    assert leaky(2.0) != leaky(2.5)
    assert Neuron(("v = w", "w = x", S), {"v": 0, "w": 1}) != Neuron(("v = w", "w = x", S), {"w": 1, "v": 0})


def test_neurons_cannot_be_changed() -> None:
    constants = {"b": 0.5}
    neuron = Neuron(("v = b * x", S), V, constants)
    constants["b"] = 0.7
    assert neuron.constants["b"] == 0.5
    with pytest.raises(TypeError):
        neuron.constants["b"] = 0.7  # type: ignore[index]


def test_text() -> None:
    assert str(neuron_kinds.many_spikes(1)) == (
        "h = 0.9 * v + x; s = max(min(trunc(h / 0.31), 5), 0); v = h - s * 0.31; emits s (0..5)"
    )
    assert str(neuron_kinds.membrane(1)) == "v = v + (x - v) / 2.7; emits v (real)"
    assert str(Neuron(("v = x + y", S), V, inputs=["x", "y"])) == "v = x + y; s = v > 1; inputs x, y"  # type: ignore[arg-type]
    assert str(Neuron(("v = b * x", S), V, {"b": (0.5, 0.25)})) == "v = b * x; s = v > 1; b 0.25..0.5 per channel"


def test_exactness() -> None:
    assert leaky(2.0).is_exact
    neuron = Neuron(("v = v * sigmoid(exp(x))", S), V)
    assert not neuron.is_exact
    assert neuron.inexact == ("exp", "sigmoid")


@pytest.mark.parametrize(
    "kind", [*neuron_kinds.SPIKING, *neuron_kinds.COUNTING, *neuron_kinds.REAL, neuron_kinds.two_inputs]
)
@pytest.mark.parametrize("detach_reset", [False, True])
def test_layers_that_train_compute_what_inference_does(kind: neuron_kinds.Kind, detach_reset: bool) -> None:
    neuron = kind(6)
    x, *others = torch.randn(len(neuron.inputs), 8, 4, 6, requires_grad=True).unbind()
    x.retain_grad()
    layer = SpikingNeuron(neuron, detach_reset=detach_reset)
    actual = layer(x, *others)
    states = tuple(torch.full((4, 6), first) for first in neuron.states.values())
    for t in range(8):
        with torch.no_grad():
            expected, states = step([current[t] for current in (x, *others)], states, neuron)
        assert torch.equal(actual[t], expected)
    assert layer.states is not None
    assert all(torch.equal(a, b) for a, b in zip(layer.states, states, strict=True))
    assert bool((actual != actual.flatten()[0]).any())
    actual.sum().backward()
    assert x.grad is not None
    assert x.grad[0].any(), "the gradient reaches the first step"


def test_the_text_of_a_number_is_not_taken_for_a_constant() -> None:
    assert str(Neuron(("v = 1e3 * x", S), V, {"e3": 0.5})) == "v = 1e3 * x; s = v > 1"
