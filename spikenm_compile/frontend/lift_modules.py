"""Modules of a captured graph in time: neurons become steps with explicit state, layers plain single-step layers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import nn
from torch.fx import GraphModule

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapters import canonical, is_multi_step, is_neuron, plain_layer, stateful_types
from spikenm_compile.frontend.recording import AutogradFunction, call_reset
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Final, Flat, Running, Sequence, Static, Step, Value

_ABSENT = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_SUPPORTED: tuple[type[nn.Module], ...] = (
    nn.Conv2d,
    nn.Linear,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
)


def single_step_calls(captured: GraphModule) -> Counter[str]:
    """How often each single-step neuron is called: once per time step of an unrolled loop.

    Raises:
        CaptureError: the neurons are not called equally often.
    """
    nodes = captured.graph.find_nodes(op="call_module", sort=False)
    names = (str(node.target) for node in nodes)
    calls = Counter(n for n in names if is_neuron(m := captured.get_submodule(n)) and not is_multi_step(m))
    if len(set(calls.values())) > 1:
        (most, high), (least, low) = calls.most_common()[0], calls.most_common()[-1]
        raise CaptureError(
            f"neuron '{most}' is called {high} times and '{least}' {low} times; each must be called once per step; "
            "give every place in the network a neuron of its own"
        )
    return calls


class ModuleLifter:
    """Reads module calls in time order.

    Args:
        time: the step graph under construction.
        calls: number of calls of each single-step neuron in the whole graph.
    """

    def __init__(self, time: Time, calls: Counter[str]) -> None:
        self.time = time
        self.total = calls
        self._made: Counter[str] = Counter()
        self._inputs: dict[str, Any] = {}
        self._spikes: dict[str, Any] = {}
        self._names: dict[nn.Module, str] = {}

    @property
    def has_neurons(self) -> bool:
        """Whether any neuron was met."""
        return bool(self._spikes)

    def call(self, name: str, module: nn.Module, args: tuple[Any, ...]) -> Value:
        """What `module`, the user's `name`, gives for a value in time."""
        if len(args) != 1 or not isinstance(args[0], Value):
            raise CaptureError(
                f"'{name}' ({type(module).__name__}) is called with {len(args)} arguments, or with a constant; layers "
                "and neurons of a step take one traced tensor; keep state inside neurons only"
            )
        value = self.time.settled(args[0])
        if is_neuron(module):
            return self._neuron(name, module, value)
        return self._layer(name, module, value)

    def is_reset(self, function: Any) -> bool:
        """Whether `function` is a recorded reset."""
        return function is call_reset

    def note_reset(self, module: Any) -> None:
        """A reset in forward: harmless before the first step or after the last, which is where a step graph has it."""
        name = self._names.get(module, "")
        if 0 < self._made[name] < self.total[name]:
            raise CaptureError(
                f"neuron '{name}' is reset between its time steps {self._made[name] - 1} and {self._made[name]}; a "
                "reset is supported before the first step and after the last; move it out of the loop"
            )

    def _neuron(self, name: str, module: nn.Module, value: Value) -> Value:
        self._names[module] = name
        t, self._made[name] = self._made[name], self._made[name] + 1
        if not is_multi_step(module):
            return self._neuron_step(name, module, value, t)
        if t > 0:
            raise CaptureError(
                f"neuron '{name}' is called twice on sequences; its state would run on from one place to the other; "
                "give every place in the network a neuron of its own"
            )
        if not isinstance(value, Sequence) or value.dim != 0:
            raise CaptureError(
                f"multi-step neuron '{name}' gets {describe(value)}; it takes a sequence [T, B, ...]; give the model "
                "such an input, or repeat the input T times in dimension 0"
            )
        self.time.note_length(value.length)
        return Sequence(self._spiking(name, module, value), value.length)

    def _neuron_step(self, name: str, module: nn.Module, value: Value, t: int) -> Step:
        if not isinstance(value, Static) and not (isinstance(value, Step) and value.t == t):
            raise CaptureError(
                f"single-step neuron '{name}' gets {describe(value)} at its call {t}; it takes the value of step {t}; "
                "call it once per time step, or give it the multi-step mode"
            )
        if t == 0:
            self._inputs[name] = value.node
            return Step(self._spiking(name, module, value), 0)
        if value.node is not self._inputs[name]:
            raise CaptureError(
                f"neuron '{name}' gets '{value.node.name}' at step {t} and '{self._inputs[name].name}' at step 0; all "
                "time steps must compute the same; give every place in the network a neuron of its own"
            )
        return Step(self._spikes[name], t)

    def _spiking(self, name: str, module: nn.Module, value: Value) -> Any:
        try:
            neuron = canonical(module)
        except CaptureError as error:
            raise CaptureError(f"layer '{name}': {error}") from error
        self._spikes[name] = self.time.builder.neuron(name, neuron, value.node)
        return self._spikes[name]

    def _layer(self, name: str, module: nn.Module, value: Value) -> Value:
        try:
            plain = plain_layer(module)
        except CaptureError as error:
            raise CaptureError(f"layer '{name}': {error}") from error
        if isinstance(plain, _ABSENT):
            return value
        if plain is None or not isinstance(plain, _SUPPORTED) or getattr(plain, "return_indices", False):
            raise CaptureError(_unsupported(name, module))
        _check_layout(name, plain, value, multi_step=is_multi_step(module))
        if isinstance(plain, nn.Flatten):
            plain = nn.Flatten().eval()
        return self.time.layer(name, plain, value)


def describe(value: Value) -> str:
    """A value in time, in words."""
    if isinstance(value, Step):
        return f"the value of step {value.t}"
    return {
        Static: "a value without time",
        Sequence: "a sequence",
        Flat: "a sequence flattened into the batch",
        Running: "a value summed over steps",
        Final: "a value read out after the last step",
    }[type(value)]


def _check_layout(name: str, plain: nn.Module, value: Value, *, multi_step: bool) -> None:
    """Whether the layer, as the user wrote it, computes each step by itself on a value of this layout."""
    is_sequence = isinstance(value, Sequence)
    if isinstance(value, Sequence) and value.dim != 0:
        is_sequence = False
    if isinstance(plain, nn.Linear):
        return
    if isinstance(plain, nn.Flatten):
        start = 2 if is_sequence and not multi_step else 1
        fits = plain.start_dim == start and plain.end_dim == -1 and (is_sequence or not multi_step)
    else:
        fits = is_sequence == multi_step
    if not fits:
        wanted = "a sequence [T, B, ...]" if multi_step else "one step [B, ...], or T steps as [T*B, ...]"
        raise CaptureError(
            f"layer '{name}' ({type(plain).__name__}) gets {describe(value)}; it takes {wanted}; set its step_mode, or "
            "flatten time into the batch with x.flatten(0, 1)"
        )


def _unsupported(name: str, module: nn.Module) -> str:
    kind = type(module).__name__
    if isinstance(module, AutogradFunction):
        return (
            f"the autograd function {module.function.__name__} is a spiking function written by hand; a step graph "
            "takes whole neurons; use the neurons of spikenm_compile.neurons"
        )
    if isinstance(module, stateful_types()):
        return (
            f"layer '{name}' ({kind}) keeps a state that a step graph does not know; only neurons keep state there; "
            "replace it by neurons"
        )
    supported = ", ".join(cls.__name__ for cls in _SUPPORTED)
    return f"layer '{name}' is a {kind}; a step graph takes {supported} and neurons; replace it by one of these"
