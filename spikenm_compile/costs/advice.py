"""Which kernel a layer should have: the quickest measured one, else the one that is predicted to be quickest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from spikenm_compile.costs.amounts import SHARED_ROWS, STAGGERED_ROWS
from spikenm_compile.costs.cpu_costs import CpuCosts
from spikenm_compile.costs.layer_call import LayerCall
from spikenm_compile.costs.trials import Kernel, Machine, Timing, Trial, key_of
from spikenm_compile.pattern import Pattern

OTHERS = {
    **dict.fromkeys(("2:4@stagger", "1:4@stagger", "1:8@stagger"), STAGGERED_ROWS),
    **dict.fromkeys(("64:2:4", "64:1:8"), SHARED_ROWS),
}
"""Patterns whose saving is looked at -> the family that takes them beside those that take any."""
WORTH_A_WORD = 0.1
"""Share of the time that a pattern must save to be named."""


@dataclass(frozen=True)
class Advice:
    """A kernel, how long it takes, and what the others would take."""

    family: str
    tile_width: int | None
    """None: the target's."""
    microseconds: float
    reason: str


@dataclass(frozen=True)
class Advisor:
    """What is known of a CPU."""

    costs: CpuCosts | None = None
    """None: its coefficients were not measured."""
    machine: Machine | None = None
    """That trials must come from."""
    trials: Mapping[str, Sequence[Trial]] = field(default_factory=dict)
    """Key of a layer on a machine -> its trials."""

    def advise(self, call: LayerCall, families: Sequence[str]) -> Advice | None:
        """The best of the families, all of which take the layer; None where nothing is known."""
        return self._measured(call, families) or self._predicted(call, families)

    def savings(self, call: LayerCall, families: Sequence[str]) -> str:
        """What other patterns would save of the time predicted for the best of the families that take the layer.

        Empty where nothing is worth a word.
        """
        if self.costs is None or not call.is_binary or call.groups > 1 or call.dilation != (1, 1):
            return ""
        now = self._best(call, families)
        any_pattern = [family for family in families if family not in OTHERS.values()]
        saved = {text: 1 - self._best(other, [*any_pattern, OTHERS[text]]) / now for text, other in _others(call)}
        named = [
            f"{text} here would save {100 * share:.0f} %" for text, share in saved.items() if share >= WORTH_A_WORD
        ]
        return ", ".join(named)

    def _best(self, call: LayerCall, families: Sequence[str]) -> float:
        """Predicted microseconds of the quickest."""
        assert self.costs is not None
        return min(self.costs.microseconds(call, family) for family in families)

    def _measured(self, call: LayerCall, families: Sequence[str]) -> Advice | None:
        trials = [] if self.machine is None else self.trials.get(key_of(call, self.machine), [])
        found = [(trial.timing, trial.kernel) for trial in trials if trial.timing and trial.kernel.family in families]
        if not found:
            return None
        best_of = dict[str, tuple[Timing, Kernel]]()
        for timing, kernel in sorted(found, key=lambda pair: pair[0]):
            best_of.setdefault(kernel.family, (timing, kernel))
        timing, kernel = next(iter(best_of.values()))
        times = {family: other.microseconds for family, (other, _) in best_of.items()}
        reason = _reason(call, times, f" in tiles of {kernel.tile_width}", "measured")
        return Advice(kernel.family, kernel.tile_width, timing.microseconds, reason)

    def _predicted(self, call: LayerCall, families: Sequence[str]) -> Advice | None:
        if self.costs is None:
            return None
        times = {family: self.costs.microseconds(call, family) for family in families}
        ranked = dict(sorted(times.items(), key=lambda item: item[1]))
        best = next(iter(ranked))
        return Advice(best, None, ranked[best], _reason(call, ranked, "", "predicted"))


NO_ADVISOR = Advisor()
"""Nothing is known."""


def _others(call: LayerCall) -> list[tuple[str, LayerCall]]:
    """The layer under the patterns that it could have."""
    patterns = [(text, Pattern.parse(text)) for text in OTHERS]
    grouped = call.inputs if call.is_linear else call.channels
    fits = [(text, p) for text, p in patterns if p.divides(grouped) and call.outputs % _slabs_of(p) == 0]
    return [(text, replace(call, pattern=pattern)) for text, pattern in fits if pattern != call.pattern]


def _slabs_of(pattern: Pattern) -> int:
    """What the outputs must split into: equal slabs, so many or of so many outputs."""
    return pattern.m // pattern.n if pattern.staggered else pattern.v


def _reason(call: LayerCall, times: Mapping[str, float], how: str, source: str) -> str:
    """`times` of families, the chosen one first."""
    (best, time), *others = times.items()
    active = "spikes" if call.is_binary else "active inputs"
    text = f"{_words(best)}{how}: {format_time(time)} {source} at {100 * call.density:.0f} % {active}"
    return ", ".join([text, *(f"{_words(family)} {format_time(other)}" for family, other in others)])


def _words(family: str) -> str:
    return family.replace("-", " ")


def format_time(microseconds: float) -> str:
    """Two digits at least, no more than tell."""
    return f"{microseconds:.1f} µs" if microseconds < 10 else f"{microseconds:.0f} µs"
