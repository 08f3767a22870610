"""Coefficients of a CPU, and the times that they predict."""

from __future__ import annotations

from dataclasses import dataclass, fields

from spikenm_compile.costs.amounts import Amounts, Caches, amounts_of
from spikenm_compile.costs.layer_call import LayerCall
from spikenm_compile.costs.row_shapes import tile_for


@dataclass(frozen=True)
class CpuCosts:
    """What each amount takes on one core, in nanoseconds, with the facts that the amounts depend on."""

    tile_width: int
    """Of neurons with one state."""
    caches: Caches
    nanoseconds: Amounts
    """Of one of each thing."""

    def microseconds(self, call: LayerCall, family: str, tile_width: int | None = None) -> float:
        """Predicted time of one call of a layer: Σ amount · coefficient."""
        width = tile_for(self.tile_width, call.num_states) if tile_width is None else tile_width
        amounts = amounts_of(call, family, width, self.caches)
        return sum(a * c for a, c in zip(values(amounts), values(self.nanoseconds), strict=True)) / 1000


def values(amounts: Amounts) -> tuple[float, ...]:
    """All fields in their order."""
    return tuple(getattr(amounts, field.name) for field in fields(amounts))
