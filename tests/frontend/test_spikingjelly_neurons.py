from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import neuron as sj
from spikingjelly.activation_based import surrogate
from torch import Tensor, nn

from spikenm_compile import neurons
from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.spikingjelly_forms import FORMS, REFUSED, check_input
from spikenm_compile.frontend.spikingjelly_graded_forms import DECODERS
from spikenm_compile.levels import SPIKES, Levels
from spikenm_compile.neurons import Neuron

NUM_STEPS, NUM_SAMPLES, NUM_CHANNELS = 40, 2, 2048
CHANNELS = torch.linspace(0.3, 0.8, NUM_CHANNELS)
RESETS: dict[str, dict[str, Any]] = {"zero": {"v_reset": 0.0}, "hard": {"v_reset": -0.17}, "soft": {"v_reset": None}}
BOTH = ("s", "m")


def learned(node: Any, **values: float) -> Any:
    """The module with other values of its parameters."""
    with torch.no_grad():
        for name, value in values.items():
            getattr(node, name).fill_(value)
    return node


def cuba(*, step_mode: str, **options: Any) -> Any:
    """A class whose constructor does not take the step mode."""
    node = sj.CUBALIFNode(**options)
    node.step_mode = step_mode
    return node


Make = Callable[..., Any]
WITH_RESET: dict[str, Make] = {
    "KLIF": lambda **o: learned(sj.KLIFNode(tau=1.7, v_threshold=0.43, **o), k=1.3),
    "KLIF-scaled": lambda **o: learned(sj.KLIFNode(scale_reset=True, tau=1.7, v_threshold=0.37, **o), k=0.83),
    "KLIF-full-input": lambda **o: learned(sj.KLIFNode(scale_reset=True, tau=2.3, decay_input=False, **o), k=0.83),
    "CUBALIF": lambda **o: cuba(**o),
    "CUBALIF-slow": lambda **o: cuba(c_decay=0.37, v_decay=0.81, v_threshold=1.23, **o),
    "QIF": lambda **o: sj.QIFNode(**{"v_rest": 0.1, **o}),
    "QIF-sharp": lambda **o: sj.QIFNode(tau=2.7, v_c=0.71, a0=1.3, v_threshold=0.83, v_rest=0.07, **o),
    "EIF": lambda **o: sj.EIFNode(**{"v_rest": 0.1, **o}),
    "EIF-soft": lambda **o: sj.EIFNode(tau=3.3, delta_T=0.7, theta_rh=0.61, v_threshold=0.9, **o),
    "Izhikevich": lambda **o: sj.IzhikevichNode(**o),
    "Izhikevich-adaptive": lambda **o: sj.IzhikevichNode(tau=2.3, a=0.13, b=0.21, tau_w=3.7, w_rest=0.05, a0=0.9, **o),
    "RAF": lambda **o: sj.RAFNode(**o),
    "RAF-fine": lambda **o: sj.RAFNode(b=-0.31, omega=2.3, dt=0.37, v_threshold=0.71, **o),
    "TernaryIF": lambda **o: sj.TernaryIFNode(v_threshold=1.3, **o),
    "TernaryLIF": lambda **o: sj.TernaryLIFNode(tau=1.7, v_threshold=0.41, **o),
    "TernaryLIF-full-input": lambda **o: sj.TernaryLIFNode(tau=3.1, decay_input=False, v_threshold=1.1, **o),
    "ActivationAwareIF": lambda **o: sj.ActivationAwareIFNode(0.83, 0.17, **o),
    "ActivationAwareIF-far": lambda **o: sj.ActivationAwareIFNode(1000.8, 1000.1, **o),
    "ActivationAwareIF-by-channel": lambda **o: sj.ActivationAwareIFNode(CHANNELS + 0.4, CHANNELS.flip(0) - 0.5, **o),
    "ActivationAwareIF-mixed": lambda **o: sj.ActivationAwareIFNode(2, (CHANNELS - 0.5).double(), **o),
    "LIAF": lambda **o: sj.LIAFNode(torch.relu, False, **o),
    "LIAF-sigmoid": lambda **o: sj.LIAFNode(nn.Sigmoid(), True, tau=1.7, decay_input=False, v_threshold=0.7, **o),
    "LIAF-kept": lambda **o: sj.LIAFNode(torch.abs, True, tau=1.7, v_threshold=0.3, store_v_seq=True, **o),
    "LIAF-linear": lambda **o: sj.LIAFNode(nn.Identity(), True, tau=2.9, v_threshold=0.3, **o),
    "SimpleIF": lambda **o: sj.SimpleIFNode(v_threshold=0.9, **o),
    "SimpleIF-by-channel": lambda **o: sj.SimpleIFNode(v_threshold=CHANNELS, **o),
}
"""Name -> makes the module from v_reset and step_mode."""
WITHOUT_RESET: dict[str, Make] = {
    "HalfThresholdIF": lambda **o: sj.HalfThresholdIFNode(1.1, **o),
    "ILIF": lambda **o: sj.ILIFNode(**o),
    "ILIF-wide": lambda **o: sj.ILIFNode(1.7, 0.23, surrogate.MultiLevelSpikeCount(7), **o),
    "ILIF-binary": lambda **o: sj.ILIFNode(1.7, 0.6, surrogate.MultiLevelSpikeCount(1), **o),
    "ComplementaryLIF": lambda **o: sj.ComplementaryLIFNode(tau=1.9, v_threshold=0.7, **o),
    "SimpleLIF": lambda **o: sj.SimpleLIFNode(1.7, True, v_threshold=0.4, v_reset=-0.17, **o),
    "SimpleLIF-full-input": lambda **o: sj.SimpleLIFNode(1.7, False, v_threshold=0.7, **o),
    "SimpleLIF-float64-start": lambda **o: sj.SimpleLIFNode(3.3, False, v_threshold=0.7, v_reset=-0.17, **o),
    "SimpleLIF-float32-start": lambda **o: sj.SimpleLIFNode(4.0, False, v_threshold=0.7, v_reset=0.1, **o),
    "STBIF": lambda **o: sj.STBIFNode(0.73, 5, **o),
    "STBIF-signed": lambda **o: sj.STBIFNode(0.31, 8, sym=True, **o),
    "STBIF-unit": lambda **o: sj.STBIFNode(1.0, 5, sym=True, **o),
}
SINGLE_STEP: dict[str, Make] = {
    "SLTTLIF": lambda **o: sj.SLTTLIFNode(tau=1.7, v_threshold=0.4, **o),
    "SLTTLIF-full-input": lambda **o: sj.SLTTLIFNode(tau=2.3, decay_input=False, **o),
    "OTTTLIF": lambda **o: sj.OTTTLIFNode(tau=1.7, v_threshold=0.8, **o),
    "OTTTLIF-decayed-input": lambda **o: sj.OTTTLIFNode(tau=1.7, decay_input=True, v_threshold=0.4, **o),
}
MULTI_STEP: dict[str, Make] = {
    "DSRIF": lambda **o: learned(sj.DSRIFNode(v_threshold=0.9, alpha=0.37, **o), v_threshold=0.83),
    "DSRIF-bound": lambda **o: learned(sj.DSRIFNode(v_threshold=0.9, **o), v_threshold=-1.0),
    "DSRIF-fixed": lambda **o: sj.DSRIFNode(v_threshold=0.9, v_threshold_training=False, **o),
    "DSRLIF": lambda **o: sj.DSRLIFNode(v_threshold=0.29, tau=1.3, delta_t=0.3, alpha=0.41, **o),
    "DSRLIF-default": lambda **o: sj.DSRLIFNode(**o),
    "NonSpikingIF": lambda **o: sj.NonSpikingIFNode(),
    "NonSpikingLIF": lambda **o: sj.NonSpikingLIFNode(tau=3.3),
}
INEXACT = {"EIF", "EIF-soft", "ComplementaryLIF", "LIAF-sigmoid"}

CASES = [
    *((name, reset, mode) for name in WITH_RESET for reset in RESETS for mode in BOTH),
    *((name, "", mode) for name in WITHOUT_RESET for mode in BOTH),
    *((name, reset, "s") for name in SINGLE_STEP for reset in RESETS),
    *((name, "", "m") for name in MULTI_STEP),
]
MAKERS = {**WITH_RESET, **WITHOUT_RESET, **SINGLE_STEP, **MULTI_STEP}


def make(name: str, reset: str, step_mode: str) -> Any:
    return MAKERS[name](**RESETS.get(reset, {}), step_mode=step_mode).eval()


def canonical(node: Any) -> Neuron:
    check_input(node, (NUM_SAMPLES, NUM_CHANNELS))
    return FORMS[type(node).__name__](node)


def random_input(name: str, num_steps: int = NUM_STEPS) -> Tensor:
    torch.manual_seed(0)
    # quadratic and exponential charge runs away from soft resets in stronger currents
    scale = 0.3 if name.startswith("EIF") else 0.6 if name.startswith(("QIF", "Izhikevich")) else 0.9
    return (torch.randn(num_steps, NUM_SAMPLES, NUM_CHANNELS) + 0.4) * scale


@torch.no_grad()
def run_library(node: Any, x: Tensor) -> Tensor:
    if getattr(node, "step_mode", "m") == "s":
        return torch.stack([node(x_t) for x_t in x])
    out = node(x)
    return torch.stack(out) if isinstance(out, list) else out


def run_equations(spec: Neuron, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    states: Any = [torch.full_like(x[0], first) for first in spec.states.values()]
    outputs = []
    for x_t in x:
        out, states = neurons.step(x_t, states, spec)
        outputs.append(out)
    return torch.stack(outputs), dict(zip(spec.states, states, strict=True))


@pytest.mark.parametrize(("name", "reset", "step_mode"), CASES)
def test_outputs_and_states_are_the_librarys(name: str, reset: str, step_mode: str) -> None:
    node = make(name, reset, step_mode)
    spec = canonical(node)
    x = random_input(name)
    expected = run_library(node, x)
    actual, states = run_equations(spec, x)
    assert torch.isfinite(expected).all()
    assert torch.equal(actual, expected)
    compared = [state for state in states if hasattr(node, state)]
    assert compared or name.startswith("DSR")  # which forgets its potential
    assert {*getattr(node, "_memories", {})} - {"trace", "cur_output"} <= {*compared}  # of training; of no further use
    assert all(torch.equal(states[state], getattr(node, state)) for state in compared)
    assert spec.is_exact is (name not in INEXACT or (name == "LIAF-sigmoid" and step_mode == "m"))
    if spec.levels is None:
        assert expected.ne(0).any()
    else:
        assert set(expected.flatten().tolist()) == set(range(spec.levels.low, spec.levels.high + 1))
        assert 0.01 < expected.ne(0).float().mean() < 0.99


def test_every_class_with_equations_is_in_the_table_in_the_step_modes_that_it_has() -> None:
    tested = {(type(make(name, reset, mode)).__name__, mode) for name, reset, mode in CASES}
    expected = {(name, mode) for name in FORMS for mode in BOTH}
    expected -= {(name, "s") for name in ("DSRIFNode", "DSRLIFNode", "NonSpikingIFNode", "NonSpikingLIFNode")}
    expected -= {(name, "m") for name in ("OTTTLIFNode", "SLTTLIFNode")}
    assert tested == expected


ON_A_GRID: dict[str, Make] = {
    "TernaryIF": lambda **o: sj.TernaryIFNode(**o),
    "STBIF": lambda **o: sj.STBIFNode(1.0, 6, sym=True, **o),
    "SimpleIF": lambda **o: sj.SimpleIFNode(**o),
    "QIF": lambda **o: sj.QIFNode(v_c=0.5, v_threshold=0.5, v_reset=0.0, **o),
    "ILIF": lambda **o: sj.ILIFNode(2.0, **o),
    "DSRIF": lambda **_: sj.DSRIFNode(v_threshold=1.0),
}


@pytest.mark.parametrize("step_mode", BOTH)
@pytest.mark.parametrize("name", ON_A_GRID)
def test_potentials_that_meet_the_threshold_exactly(name: str, step_mode: str) -> None:
    node = ON_A_GRID[name](step_mode=step_mode)
    x = random_input("grid").mul(2).round().div(2)
    assert torch.equal(run_equations(canonical(node), x)[0], run_library(node, x))


def test_first_step_of_a_simple_lif_is_float64() -> None:
    """The last bit that the further state is there for."""
    x = torch.zeros(1, 1, 1)
    node = make("SimpleLIF-float64-start", "", "s")
    with_state, _ = FORMS["SimpleLIFNode"](node), node(x[0])
    assert dict(with_state.states) == {"v": 0.0, "is_on": 0.0}
    plain = Neuron(("v = v + (v_reset - v) / tau + x",), {"v": 0.0}, {"v_reset": -0.17, "tau": 3.3}, "v", None)
    assert float(run_equations(with_state, x)[1]["v"]) == float(node.v) != float(run_equations(plain, x)[0])
    assert set(FORMS["SimpleLIFNode"](make("SimpleLIF-float32-start", "", "s")).states) == {"v"}


def test_single_and_multi_step_ilif_differ() -> None:
    single, multi = (make("ILIF-wide", "", step_mode) for step_mode in BOTH)
    x = random_input("ILIF")
    run_library(single, x)
    run_library(multi, x)
    assert not torch.equal(single.v, multi.v)
    assert canonical(single) != canonical(multi)


def test_multi_step_liaf_emits_the_spikes_that_it_inherits() -> None:
    assert [canonical(make("LIAF", "zero", mode)).levels for mode in BOTH] == [None, SPIKES]
    assert canonical(make("LIAF-kept", "zero", "m")).levels is None


LEVELS = {
    "TernaryIF": Levels(-1, 1),
    "ILIF-wide": Levels(0, 7),
    "STBIF-unit": Levels(-1, 1),
    "QIF": SPIKES,
    "STBIF": None,
}


@pytest.mark.parametrize("name", LEVELS)
def test_levels_of_the_output(name: str) -> None:
    assert canonical(make(name, "zero" if name in WITH_RESET else "", "s")).levels == LEVELS[name]


@pytest.mark.parametrize("decode", [*DECODERS, None, "last-mem"])
@pytest.mark.parametrize("tau", [None, 3.3])
def test_decoded_potential_is_the_output_of_the_last_step(tau: float | None, decode: str | None) -> None:
    node = sj.NonSpikingIFNode(decode) if tau is None else sj.NonSpikingLIFNode(tau, decode)
    x = random_input("NonSpiking") - 0.5
    returned, (outputs, states) = node(x), run_equations(canonical(node), x)
    assert torch.equal(states["v"], node.v)
    if decode not in DECODERS:
        assert torch.equal(outputs, torch.stack(returned))
    elif decode == "mean-mem":  # torch adds up in blocks
        torch.testing.assert_close(outputs[-1], returned, rtol=0, atol=NUM_STEPS * 2**-23)
    else:
        assert torch.equal(outputs[-1], returned)


def test_decoders_differ() -> None:
    x = random_input("NonSpiking") - 0.5
    results = [run_equations(canonical(sj.NonSpikingIFNode(decode)), x)[0][-1] for decode in DECODERS]
    assert all(not torch.equal(a, b) for i, a in enumerate(results) for b in results[:i])


def test_a_first_value_is_the_one_that_reset_gives() -> None:
    node = sj.KLIFNode(v_reset=-0.2)
    node.set_reset_value("v", 0.3)
    assert canonical(node).states["v"] == 0.3
    assert canonical(sj.HalfThresholdIFNode(0.9)).states["v"] == 0.45


def test_channels_behind_a_convolution() -> None:
    node = sj.ActivationAwareIFNode(torch.rand(6) + 0.3, torch.rand(6) - 0.5, channel_dim=1)
    x = torch.randn(10, 2, 6, 5, 6) + 0.3
    check_input(node, (2, 6, 5, 6))
    assert torch.equal(run_equations(FORMS["ActivationAwareIFNode"](node), x)[0], run_library(node, x))


@pytest.mark.parametrize(
    ("node", "shape", "message"),
    [
        (sj.ActivationAwareIFNode(torch.rand(6)), (2, 6, 5, 6), r"6 thresholds .* dimension -1 .*channel_dim=1"),
        (sj.ActivationAwareIFNode(1.0, torch.rand(5), channel_dim=1), (2, 6), r"5 thresholds or offsets"),
        (sj.SimpleIFNode(torch.rand(6)), (2, 6, 5, 6), r"v_threshold of a SimpleIFNode.*\[6, 1, 1\]"),
    ],
)
def test_parameters_that_are_not_by_channel(node: nn.Module, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        check_input(node, shape)


def precise(node: Any) -> Any:
    node._neuron_precision = ("fp16", "fp32", "fp32")
    return node


OPTIONS_REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "primitive": (
        lambda: sj.QIFNode(surrogate_function=surrogate.Sigmoid(spiking=False)),
        "surrogate function of a QIF",
    ),
    "random": (lambda: sj.RAFNode(surrogate_function=surrogate.PoissonPass()), "draws no random"),
    "counts": (lambda: sj.KLIFNode(surrogate_function=surrogate.MultiLevelSpikeCount(2)), "other values than 0 below"),
    "above": (lambda: sj.SimpleIFNode(surrogate_function=lambda d: (d > 0).float()), "1 from zero on"),
    "precision": (lambda: precise(sj.EIFNode()), "EIFNode computes in a precision of its own"),
    "precision-ilif": (lambda: precise(sj.ILIFNode()), "ILIFNode computes in a precision of its own"),
    "in-place": (lambda: sj.LIAFNode(nn.ReLU(inplace=True), False), "ReLU with inplace=True, which overwrites"),
    "activation": (lambda: sj.LIAFNode(torch.tanh, True), "act of a LIAFNode is tanh; relu, sigmoid"),
    "activation-module": (lambda: sj.LIAFNode(nn.Softplus(), True), "act of a LIAFNode is Softplus"),
    "many-spikes": (lambda: sj.ILIFNode(surrogate_function=surrogate.MultiLevelSpikeCount(300)), "up to 300 spikes"),
    "soft-simple": (lambda: sj.SimpleLIFNode(2.0, True, v_reset=None), "use LIFNode for a soft reset"),
    "matrix": (lambda: sj.SimpleIFNode(v_threshold=torch.rand(3, 4)), r"shape \[3, 4\]"),
}


@pytest.mark.parametrize("case", OPTIONS_REFUSED)
def test_options_without_equations_are_refused_in_a_sentence(case: str) -> None:
    build, message = OPTIONS_REFUSED[case]
    node = build()
    with pytest.raises(CaptureError, match=message) as caught:
        FORMS[type(node).__name__](node)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [n for n in surrogate.__dict__ if isinstance(getattr(surrogate, n), type)])
def test_every_surrogate_function_that_spikes_is_known(name: str) -> None:
    cls = getattr(surrogate, name)
    passes = {"PoissonPass", "DeterministicPass", "MultiLevelSpikeCount", "SurrogateFunctionBase"}
    if not issubclass(cls, surrogate.SurrogateFunctionBase) or name in passes:
        return
    assert canonical(sj.QIFNode(surrogate_function=cls())).is_binary


def test_every_class_of_the_library_has_equations_or_a_reason() -> None:
    abstract = {"BaseNode", "SimpleBaseNode", "NonSpikingBaseNode", "AdaptBaseNode", "ILCBaseNode", "MPBNBaseNode"}
    abstract |= {"NoisyBaseNode", "NoisyILCBaseNode", "NoisyNonSpikingBaseNode"}
    by_the_adapter = {"IFNode", "LIFNode", "ParametricLIFNode"}
    classes = {n for n, cls in vars(sj).items() if isinstance(cls, type) and issubclass(cls, nn.Module)}
    assert classes - abstract - by_the_adapter == {*FORMS, *REFUSED}
    assert not {*FORMS} & {*REFUSED}
    assert {type(make(name, "", "m" if name in MULTI_STEP else "s")).__name__ for name in MAKERS} == {*FORMS}
