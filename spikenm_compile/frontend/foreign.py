"""Libraries that capture cannot look into at all, because their time steps run in native code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from spikenm_compile.errors import CaptureError

_LIBRARIES: Mapping[str, str] = MappingProxyType({"lava.lib.dl.slayer": "SLAYER (lava-dl)"})
"""Package -> what its users call it."""


def refuse_native_libraries(model: nn.Module) -> None:
    """Find modules whose kernels hide the time steps.

    Raises:
        CaptureError: there is one.
    """
    for path, module in model.named_modules():
        package = type(module).__module__
        for library, title in _LIBRARIES.items():
            if f"{package}.".startswith(f"{library}."):
                raise CaptureError(
                    f"module '{path or type(model).__name__}' ({type(module).__name__}) is one of {title}, which "
                    "computes all time steps in native kernels; models of SpikingJelly, snnTorch, Norse and sinabs, "
                    "NIR files and neurons of spikenm_compile.neurons are supported; rebuild the network with these "
                    "neurons and load its weights"
                )
