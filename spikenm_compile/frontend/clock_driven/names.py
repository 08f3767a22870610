"""What the names of `spikingjelly.clock_driven` (0.0.0.0.12) are called in SpikingJelly 2.0.

A name that is not here means in 2.0 what it meant before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Renamed:
    """A class of 2.0 that stands for a former one."""

    name: str
    step_mode: str | None
    """Step mode that the former class had; None: the class of 2.0 knows one only."""
    defaults: tuple[tuple[str, Any], ...] = ()
    """Arguments that had other defaults."""


MODULES = ("base", "encoding", "functional", "layer", "neuron", "surrogate")
"""Modules of the former package; each has the names of the 2.0 module of the same name, too."""

RENAMED: Mapping[str, Mapping[str, Renamed]] = MappingProxyType(
    {
        "neuron": {
            **{name: Renamed(name, "s") for name in ("IFNode", "LIFNode", "ParametricLIFNode", "QIFNode", "EIFNode")},
            "MultiStepIFNode": Renamed("IFNode", "m"),
            "MultiStepLIFNode": Renamed("LIFNode", "m"),
            "MultiStepParametricLIFNode": Renamed("ParametricLIFNode", "m"),
            "MultiStepEIFNode": Renamed("EIFNode", "m"),
            "MultiStepIzhikevichNode": Renamed("IzhikevichNode", "m", (("v_reset", -0.1),)),
        },
        "layer": {
            "MultiStepDropout": Renamed("Dropout", "m"),
            "MultiStepDropout2d": Renamed("Dropout2d", "m", (("p", 0.5),)),
            **{
                f"MultiStepThresholdDependentBatchNorm{n}d": Renamed(f"ThresholdDependentBatchNorm{n}d", None)
                for n in (1, 2, 3)
            },
            "MultiStepTemporalWiseAttention": Renamed("TemporalWiseAttention", None),
        },
    }
)
"""Module -> former name -> class of 2.0."""

NO_LONGER = frozenset({"backend", "cupy_fp32_inference", "lava_s_cale"})
"""Arguments that chose how a neuron was computed, not what; 2.0 chooses itself."""
