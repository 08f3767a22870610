"""Which runs each command of the learning benchmark makes; one function a command, split by split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.learning_runs import DENSE, Run, Value, sorted_options

PATTERNS = {"event": ("2:4", "2:8", "1:8", "1:16"), "digits": ("2:4", "1:4", "2:8", "1:8", "2:16", "1:16")}
SPIKENM: Mapping[str, Value] = {"noise": 0.1, "eid": 0.0, "tail": 0.3}
"""Written out, so that results keep their name when the defaults change."""
WITH_EID: Mapping[str, Value] = {**SPIKENM, "eid": 0.1}
STRESS: Mapping[str, Value] = {
    **{"noise": 1.0, "tail": 0.3, "constant": True, "zero_init": True, "logit_rate": 10.0},
    **{"relaxation": "softmax", "relaxation_temperature": 1.0, "task_weight": 0.1},
}
"""Sampling as in the textbook, which at high sparsity needs the distillation."""


def variant(data: str, learner: str = DENSE, pattern: str = "", net: str = "32", **options: Value) -> Run:
    """A run without a split."""
    return Run(data, -1, learner, pattern, net, sorted_options(options))  # type: ignore[arg-type]


def spikenm(data: str, pattern: str, net: str = "32", **options: Value) -> Run:
    """SpikeNM with the settings of SPIKENM and other `options`."""
    return variant(data, "spikenm", pattern, net, **{**SPIKENM, **options})


def acceptance() -> Iterator[Run]:
    """Every learner at every pattern on both data sets."""
    for data, patterns in PATTERNS.items():
        yield variant(data)
        for pattern in patterns:
            yield spikenm(data, pattern)
            yield spikenm(data, pattern, eid=0.1)


def stress() -> Iterator[Run]:
    """Textbook sampling without and with EID."""
    for pattern in ("1:8", "1:16"):
        for eid in (0.0, 1.0):
            yield variant("digits", "spikenm", pattern, **{**STRESS, "eid": eid})


PLANS = {"acceptance": acceptance, "stress": stress}
"""Command -> its variants in order."""
