from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import snntorch as snn
import torch
from frontend.given_forward import Net
from snntorch import utils
from torch import Tensor, nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift


def changed_state(net: Any, x: Tensor) -> Tensor:
    mem, out = net.lif.reset_mem(), []
    for _ in range(3):
        spk, mem = net.lif(net.fc(x), mem)
        mem = mem * 0.5
        out.append(spk)
    return torch.stack(out)


def other_first_state(net: Any, x: Tensor) -> Tensor:
    mem, out = torch.ones(x.shape[0], 8), []
    for _ in range(3):
        spk, mem = net.lif(net.fc(x), mem)
        out.append(spk)
    return torch.stack(out)


def stale_state(net: Any, x: Tensor) -> Tensor:
    mems, out = [net.lif.reset_mem()], []
    for t in range(3):
        spk, mem = net.lif(net.fc(x), mems[min(t, 1)])
        mems.append(mem)
        out.append(spk)
    return torch.stack(out)


def swapped_states(net: Any, x: Tensor) -> Tensor:
    (syn, mem), out = net.syn.reset_mem(), []
    for _ in range(3):
        spk, mem, syn = net.syn(net.fc(x), syn, mem)
        out.append(spk)
    return torch.stack(out)


def reset_each_step(net: Any, x: Tensor) -> Tensor:
    out = []
    for _ in range(3):
        spk, _ = net.lif(net.fc(x), net.lif.reset_mem())
        out.append(spk)
    return torch.stack(out)


def unreset_class(net: Any, x: Tensor) -> Tensor:
    out = []
    for _ in range(3):
        out.append(net.lif(net.fc(x)))
        utils.reset(net)
    return torch.stack(out)


def hidden_spikes_too(net: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    mem, out, currents = net.lif.reset_mem(), [], []
    for _ in range(3):
        currents.append(net.fc(x))
        spk, mem = net.lif(currents[-1], mem)
        out.append(spk)
    return torch.stack(out), torch.stack(currents)


def leaky(**options: Any) -> nn.Module:
    node: nn.Module = snn.Leaky(**{"beta": 0.9, "threshold": 0.3, **options})
    return node


FC = nn.Linear(8, 8)
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "changed state": (
        lambda: Net(changed_state, fc=FC, lif=leaky()),
        "neuron 'lif' gets another 'mem' at its call 1 than what its call 0 returned",
    ),
    "other first state": (
        lambda: Net(other_first_state, fc=FC, lif=leaky()),
        "neuron 'lif' gets another 'mem' at its call 0 than its first value 0",
    ),
    "stale state": (
        lambda: Net(stale_state, fc=FC, lif=leaky()),
        "neuron 'lif' gets another 'mem' at its call 2 than what its call 1 returned",
    ),
    "unknown state": (
        lambda: Net(lambda n, x: n.lif(n.fc(x), syn=None)[0], fc=FC, lif=leaky()),
        "layer 'lif': a Leaky is called with arguments that it does not take .*'syn'",
    ),
    "too many states": (
        lambda: Net(lambda n, x: n.lif(n.fc(x), None, None)[0], fc=FC, lif=leaky()),
        "layer 'lif': a Leaky is called with arguments that it does not take .*too many",
    ),
    "hidden and given": (
        lambda: Net(changed_state, fc=FC, lif=leaky(init_hidden=True, output=True)),
        "layer 'lif': a Leaky with init_hidden=True is called with its state 'mem'",
    ),
    "swapped states": (
        lambda: Net(swapped_states, fc=FC, syn=snn.Synaptic(alpha=0.5, beta=0.5)),
        "neuron 'syn' gets another 'syn' at its call 1",
    ),
    "reset each step": (
        lambda: Net(reset_each_step, fc=FC, lif=leaky()),
        "neuron 'lif' is reset between its time steps 0 and 1",
    ),
    "class reset each step": (
        lambda: Net(unreset_class, fc=FC, lif=leaky(init_hidden=True)),
        "neuron 'lif' is reset between its time steps 0 and 1",
    ),
    "two outputs": (lambda: Net(hidden_spikes_too, fc=FC, lif=leaky()), "forward returns a tuple"),
    "per-neuron threshold": (
        lambda: Net(changed_state, fc=FC, lif=leaky(threshold=torch.rand(2, 8))),
        "layer 'lif': the threshold of a Leaky has shape",
    ),
    "SLSTM": (
        lambda: Net(lambda n, x: torch.stack([n.lstm(n.fc(x)) for _ in range(3)]), fc=FC, lstm=_slstm()),
        "layer 'lstm': snnTorch's SLSTM has no canonical neuron",
    ),
    "LeakyParallel": (
        lambda: Net(lambda n, x: n.leaky(n.fc(x)), fc=FC, leaky=snn.LeakyParallel(8, 8)),
        "layer 'leaky': snnTorch's LeakyParallel has no canonical neuron",
    ),
}


def _slstm() -> nn.Module:
    node: nn.Module = snn.SLSTM(8, 8, init_hidden=True)
    return node


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_says_what_and_where(name: str) -> None:
    build, message = REFUSED[name]
    x = torch.rand(2, 8)
    captured = capture(build(), x)
    with pytest.raises(CaptureError, match=message) as caught:
        lift(captured, x)
    assert "\n" not in str(caught.value)


def test_parameter_that_is_not_by_channel_is_refused_with_the_layer() -> None:
    model = nn.Sequential(nn.Conv2d(2, 8, 1), leaky(threshold=torch.rand(8), init_hidden=True))
    x = torch.rand(2, 2, 8, 8)
    with pytest.raises(CaptureError, match=r"layer '1': the threshold of a Leaky.* \[8, 1, 1\]"):
        lift(capture(model, x), x)
