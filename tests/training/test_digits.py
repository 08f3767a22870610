import builtins
from typing import Any

import pytest
import torch

from spikenm_compile.errors import ToolError
from spikenm_compile.neurons import LIF
from spikenm_compile.training.digits import digits_net, load_digits
from spikenm_compile.training.loop import reset_neurons


def test_the_split_is_fixed_by_the_seed() -> None:
    data = load_digits(3)
    assert data.train_images.shape == (1438, 1, 8, 8)
    assert data.test_images.shape == (359, 1, 8, 8)
    assert data.train_images.dtype == torch.float32
    assert (float(data.train_images.min()), float(data.train_images.max())) == (0.0, 1.0)
    assert set(data.test_labels.tolist()) == set(range(10))
    assert torch.equal(load_digits(3).test_images, data.test_images)
    assert not torch.equal(load_digits(4).test_images, data.test_images)


def test_missing_scikit_learn_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_sklearn(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_sklearn)
    with pytest.raises(ToolError, match=r"scikit-learn is not installed.*pip install"):
        load_digits()


def test_the_network_spikes_in_every_layer_and_gives_ten_logits() -> None:
    torch.manual_seed(0)
    net = digits_net(num_steps=3)
    spikes: list[torch.Tensor] = []
    for module in net.modules():
        if isinstance(module, LIF):
            module.register_forward_hook(lambda _m, _x, y: spikes.append(y))
    output = net(load_digits().train_images[:16])
    assert output.shape == (16, 10)
    assert [tuple(s.shape) for s in spikes] == [
        (3, 16, 16, 8, 8),
        (3, 16, 32, 4, 4),
        (3, 16, 32, 4, 4),
        (3, 16, 32, 2, 2),
    ]
    assert all(0.02 < float(s.detach().mean()) < 0.6 for s in spikes)
    reset_neurons(net)
    assert all(m.v is None for m in net.modules() if isinstance(m, LIF))
