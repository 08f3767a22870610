"""Networks that SpikingJelly 2.0 has (`spikingjelly.activation_based.model`), with SpikingJelly's own neurons.

The transformers are Spikformer (Zhou et al., ICLR 2023), the Spike-driven Transformer (Yao et al., NeurIPS 2023) and
QKFormer (Zhou et al., NeurIPS 2024); their defaults here suit images of 32 × 32. VGG, ResNet and SEW-ResNet are those
for ImageNet.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import nn

from spikenm_compile.errors import InputError, ToolError
from spikenm_compile.training.networks.blocks import OverTime, Stepped
from spikenm_compile.training.networks.task import Task

RGB = 3


def spikformer(
    task: Task,
    *,
    patch_size: int = 4,
    embed_dims: int = 384,
    num_heads: int = 12,
    mlp_ratio: float = 4.0,
    depths: int = 4,
) -> nn.Module:
    """Spikformer; Spikformer-4-384 by default."""
    height, width = task.image("spikformer")
    make = _maker("spikformer", "Spikformer")
    sizes = {"embed_dims": embed_dims, "num_heads": num_heads, "mlp_ratio": mlp_ratio, "depths": depths}
    return _for_steps(
        task, make(**_transformer(task), **sizes, img_size_h=height, img_size_w=width, patch_size=patch_size)
    )


def spike_driven_transformer(
    task: Task,
    *,
    embed_dims: int = 512,
    num_heads: int = 8,
    mlp_ratio: float = 4.0,
    depths: int = 2,
    pooling_stat: str = "0011",
) -> nn.Module:
    """Spike-driven Transformer; `pooling_stat`: which of the four convolutions of the stem are followed by a pool."""
    task.image("spike-driven-transformer")
    make = _maker("spike_driven_transformer", "SpikeDrivenTransformer")
    sizes = {"embed_dims": embed_dims, "num_heads": num_heads, "mlp_ratio": mlp_ratio, "depths": depths}
    return _for_steps(task, make(**_transformer(task), **sizes, pooling_stat=pooling_stat), Stepped)


def qkformer(
    task: Task,
    *,
    embed_dims: int = 384,
    num_heads: tuple[int, ...] = (3, 6, 6),
    mlp_ratio: float = 4.0,
    depths: tuple[int, ...] = (1, 1, 2),
    qka_type: str = "token",
) -> nn.Module:
    """QKFormer; its first two stages attend by tokens or by channels."""
    task.image("qkformer")
    make = _maker("qkformer", "QKFormer")
    sizes = {"embed_dims": embed_dims, "num_heads": num_heads, "mlp_ratio": mlp_ratio, "depths": depths}
    return _for_steps(task, make(**_transformer(task), **sizes, qka_type=qka_type), Stepped)


def spikingjelly_vgg(task: Task, *, depth: int = 16, tau: float = 2.0) -> nn.Module:
    """VGG with batch norm of `depth` 11, 13, 16 or 19."""
    return _for_imagenet(task, "spiking_vgg", f"spiking_vgg{depth}_bn", tau, {})


def spikingjelly_resnet(task: Task, *, depth: int = 18, tau: float = 2.0) -> nn.Module:
    """ResNet of `depth` 18, 34, 50, 101 or 152."""
    return _for_imagenet(task, "spiking_resnet", f"spiking_resnet{depth}", tau, {})


def spikingjelly_sew_resnet(task: Task, *, depth: int = 18, tau: float = 2.0, join: str = "ADD") -> nn.Module:
    """SEW-ResNet of `depth` 18, 34, 50, 101 or 152; `join`: ADD, AND or IAND."""
    return _for_imagenet(task, "sew_resnet", f"sew_resnet{depth}", tau, {"cnf": join})


def _for_imagenet(task: Task, module: str, name: str, tau: float, options: dict[str, Any]) -> nn.Module:
    task.image(name)
    if task.channels != RGB:
        raise InputError(
            f"SpikingJelly's {name} takes images of {RGB} channels, and samples have {task.channels}; use a network of "
            "this package, resnet18 for example"
        )
    make = _maker(module, name)
    from spikingjelly.activation_based import neuron, surrogate

    lif = {"tau": tau, "surrogate_function": surrogate.ATan(), "detach_reset": True}
    return _for_steps(task, make(num_classes=task.classes, spiking_neuron=neuron.LIFNode, **options, **lif))


def _maker(module: str, name: str) -> Callable[..., nn.Module]:
    try:
        home = importlib.import_module(f"spikingjelly.activation_based.model.{module}")
    except ImportError as error:
        raise ToolError(
            f"SpikingJelly's {name} cannot be imported here ({error}); install "
            f"{(error.name or 'spikingjelly').partition('.')[0]}, or use a network of this package, vgg11 for example"
        ) from error
    if not hasattr(home, name):
        known = ", ".join(home.__all__)
        raise InputError(f"SpikingJelly's {module} has no {name}; it has {known}; give another depth")
    make: Callable[..., nn.Module] = getattr(home, name)
    return make


def _transformer(task: Task) -> dict[str, int]:
    return {"T": task.num_steps, "in_channels": task.channels, "num_classes": task.classes}


def _for_steps(task: Task, body: nn.Module, wrapper: type[Stepped] = OverTime) -> nn.Module:
    """The body on its steps; one that takes the mean over time itself is wrapped in a plain `Stepped`."""
    from spikingjelly.activation_based import functional

    functional.set_step_mode(body, "m")
    return wrapper(body, None if task.has_time else task.num_steps)
