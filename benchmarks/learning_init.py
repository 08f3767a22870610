"""What the scale of the first weights decides: torch's own against He's normal, which is 2.4 times as large.

Behind a batch norm larger weights are a smaller learning rate (Adam moves both alike), so that magnitudes change order
more rarely and logits, which move at their own rate, gain.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.learning_plans import spikenm, sr_ste
from benchmarks.learning_runs import Run, Value
from benchmarks.learning_statistics import difference_text, loss, markdown, mean_text, paired, spread_text, summary
from benchmarks.learning_store import Store

PATTERNS = ("2:8", "1:8")
SCALES: dict[str, dict[str, Value]] = {"torch's": {}, "He's normal": {"he_normal": True}}


def _pair(pattern: str, scale: str) -> tuple[Run, Run]:
    options = SCALES[scale]
    return spikenm("event", pattern, **options), sr_ste("event", pattern, **options)


def init() -> Iterator[Run]:
    """Both learners from both kinds of first weights."""
    for pattern in PATTERNS:
        for scale in SCALES:
            yield from _pair(pattern, scale)


def init_table(store: Store) -> str:
    """SpikeNM against SR-STE."""
    rows = []
    for pattern in PATTERNS:
        for scale in SCALES:
            ours, theirs = (store.of(run) for run in _pair(pattern, scale))
            row = [f"{pattern}, {scale}"]
            for results in (ours, theirs):
                row += [spread_text(summary(results)), mean_text(summary(results, loss))]
            rows.append([*row, difference_text(paired(ours, theirs)), difference_text(paired(ours, theirs, loss), 3)])
    columns = ("SpikeNM", "cross-entropy", "SR-STE", "cross-entropy", "Δ accuracy", "Δ cross-entropy")
    return markdown(["first weights", *columns], rows)
