"""Standard layers: what capture keeps as one node, and plain copies that share their parameters."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn
from torch.nn.modules import activation, batchnorm, conv, dropout, pooling

from spikenm_compile.errors import CaptureError

_ACTIVATIONS = tuple(getattr(activation, name) for name in activation.__all__)
_POOLINGS = tuple(getattr(pooling, name) for name in pooling.__all__)

DROPOUTS: tuple[type[nn.Module], ...] = (dropout._DropoutNd,)
"""Layers that compute something else in training."""
STANDARD_LAYERS: tuple[type[nn.Module], ...] = (
    conv._ConvNd,
    nn.Linear,
    nn.Bilinear,
    nn.Embedding,
    batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    *DROPOUTS,
    nn.Flatten,
    nn.Unflatten,
    nn.Upsample,
    nn.Identity,
    nn.RNNBase,
    *_POOLINGS,
    *_ACTIVATIONS,
)
"""Layers that stay one node of a captured graph, found by isinstance: libraries subclass them outside torch.nn."""


def plain_view(module: nn.Module, plain_type: type[nn.Module]) -> nn.Module:
    """A `plain_type` in eval mode with the attributes of `module` and the very same parameter and buffer tensors.

    Assigning a parameter of the view leaves `module` alone; hooks stay behind.

    Raises:
        CaptureError: the weight is computed by a hook or parametrization instead of being a parameter.
    """
    weighted = issubclass(plain_type, conv._ConvNd | nn.Linear)
    if weighted and "weight" not in module._parameters:
        raise CaptureError(
            f"a {type(module).__name__} computes its weight from other parameters (parametrization, pruning or weight "
            "norm); a step graph needs the weight itself; bake it in first, for example with "
            "torch.nn.utils.parametrize.remove_parametrizations"
        )
    view = plain_type.__new__(plain_type)
    nn.Module.__init__(view)
    fresh = set(view.__dict__)
    attributes: dict[str, Any] = {k: v for k, v in module.__dict__.items() if k not in fresh}
    view.__dict__.update(attributes)
    for kind in ("_parameters", "_buffers", "_non_persistent_buffers_set"):
        view.__dict__[kind] = module.__dict__[kind].copy()
    return view.eval()


def plain_standard_layer(module: nn.Module) -> nn.Module | None:
    """Plain copy of a torch layer, or of a subclass that computes the same; None if `module` is neither."""
    for base in type(module).__mro__:
        if base.__module__.startswith("torch.nn.modules."):
            overrides = inspect.getattr_static(type(module), "forward") is not inspect.getattr_static(base, "forward")
            return None if overrides or not issubclass(base, STANDARD_LAYERS) else plain_view(module, base)
    return None
