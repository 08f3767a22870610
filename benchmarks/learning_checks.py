"""What the learners must reach on the twelve-epoch trainings, and whether they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.learning_frontier import KINDS, dense
from benchmarks.learning_plans import asp, spikenm, sr_ste, stress_run, variant
from benchmarks.learning_runs import Run
from benchmarks.learning_statistics import NOTHING, Summary, difference_text, markdown, paired, spread_text, summary
from benchmarks.learning_store import Store
from benchmarks.learning_tries import CHOSEN, CHOSEN_ASP, CHOSEN_SR_STE


@dataclass(frozen=True, slots=True)
class Check:
    """A lower bound of a mean accuracy, or of the mean of its paired difference to another run."""

    run: Run
    least: float
    base: Run | None = None
    """None: the accuracy itself."""

    @property
    def name(self) -> str:
        """What is compared."""
        text = f"{self.run.data} {_described(self.run)}"
        return text if self.base is None else f"{text} − {_described(self.base)}"

    def found(self, store: Store) -> Summary:
        """What was measured."""
        results = store.of(self.run)
        return summary(results) if self.base is None else paired(results, store.of(self.base))

    def row(self, store: Store) -> list[str]:
        """Name, what was measured, the bound, and whether it holds."""
        found = self.found(store)
        text = spread_text(found) if self.base is None else difference_text(found)
        verdict = NOTHING if not found.n else "yes" if found.mean >= self.least else "**no**"
        bound = f"≥ {self.least:g}" if self.base is None else f"≥ {self.least:+g}"
        return [self.name, text, bound, verdict]


def _described(run: Run) -> str:
    """Learner and pattern, and the settings that tell two checks apart."""
    shown = {"lr", "progressive", "eid"}
    settings = ", ".join(f"{name}={value:g}" for name, value in run.options if name in shown and value)
    return f"{run.learner} {run.pattern}".strip() + (f" ({settings})" if settings else "")


def checks() -> Iterator[Check]:
    """What both data sets must reach at the settings of the table of learners."""
    digits: Callable[[str], Run] = lambda pattern: spikenm("digits", pattern)  # noqa: E731
    yield Check(variant("digits"), 97.5)
    yield Check(digits("2:4"), 97.8)
    yield Check(digits("2:4"), -0.5, variant("digits"))
    for pattern, least in (("1:4", 97.0), ("2:8", 97.0), ("1:8", 96.8), ("2:16", 96.5), ("1:16", 95.8)):
        yield Check(digits(pattern), least)
    yield Check(digits("1:16"), 2.0, asp("digits", "1:16"))
    event = {pattern: spikenm("event", pattern) for pattern in ("2:4", "2:8", "1:8", "1:16")}
    yield Check(variant("event"), 80.0)
    yield Check(event["2:4"], -1.5, variant("event"))
    yield Check(event["2:8"], 78.5)
    yield Check(event["2:8"], 0.0, sr_ste("event", "2:8"))
    yield Check(event["1:8"], 73.0)
    yield Check(event["1:8"], -0.5, sr_ste("event", "1:8"))
    yield Check(event["1:16"], 65.5)
    yield Check(event["1:16"], 1.5, asp("event", "1:16"))
    for pattern in ("1:8", "1:16"):
        yield Check(stress_run(pattern, 1.0), 8.0, stress_run(pattern, 0.0))


def checks_of_chosen() -> Iterator[Check]:
    """What event digits must reach at settings that were chosen on validation splits, each learner at its own."""
    for pattern, least in (("2:8", 78.5), ("1:8", 73.0), ("1:16", 65.5)):
        yield Check(spikenm("event", pattern, **CHOSEN), least)
    yield Check(spikenm("event", "2:4", **CHOSEN), -1.5, dense("32"))
    for pattern in ("2:8", "1:8", "1:16"):
        yield Check(spikenm("event", pattern, **CHOSEN), 0.0, sr_ste("event", pattern, **CHOSEN_SR_STE))
    yield Check(spikenm("event", "1:16", **CHOSEN), 1.5, asp("event", "1:16", **CHOSEN_ASP))
    yield Check(KINDS["staggered"](32, "2:8"), 72.0)
    yield Check(KINDS["staggered"](32, "1:8"), 66.0)


def chosen() -> Iterator[Run]:
    """The runs that `checks_of_chosen` look at, each once."""
    runs = (run for check in checks_of_chosen() for run in (check.run, check.base) if run is not None)
    yield from dict.fromkeys(runs)


def check_table(store: Store) -> str:
    """All checks."""
    return markdown(
        ["check", "measured", "must be", "holds"], [check.row(store) for check in (*checks(), *checks_of_chosen())]
    )
