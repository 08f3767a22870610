"""Which runs each command of the learning benchmark makes; a run here has no split yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from benchmarks.learning_runs import DENSE, Run, Value, sorted_options

PATTERNS = {"event": ("2:4", "2:8", "1:8", "1:16"), "digits": ("2:4", "1:4", "2:8", "1:8", "2:16", "1:16")}
MASKLLM_PATTERNS = ("2:4", "2:8")
"""With N = 1 it is SpikeNM."""
STRESS_PATTERNS = ("1:8", "1:16")
SPIKENM: Mapping[str, Value] = {"noise": 0.1, "eid": 0.0, "tail": 0.3}
"""Written out, so that results keep their name when the defaults change."""


STRESS: Mapping[str, Value] = {
    "noise": 1.0,
    "tail": 0.3,
    "constant": True,
    "zero_init": True,
    "logit_rate": 10.0,
    "relaxation": "softmax",
    "relaxation_temperature": 1.0,
    "task_weight": 0.1,
}
"""Masks sampled as in the textbook: full noise, no prior, slow logits, a saturating relaxation."""


def variant(data: str, learner: str = DENSE, pattern: str = "", net: str = "32", /, **options: Value) -> Run:
    """A run without a split."""
    return Run(data, -1, learner, pattern, net, sorted_options(options))  # type: ignore[arg-type]


def spikenm(data: str, pattern: str, net: str = "32", /, **options: Value) -> Run:
    """SpikeNM with the settings of SPIKENM and other `options`."""
    return variant(data, "spikenm", pattern, net, **{**SPIKENM, **options})


def sr_ste(data: str, pattern: str, net: str = "32", /, **options: Value) -> Run:
    """SR-STE with its published decay."""
    return variant(data, "sr-ste", pattern, net, **{"pruned_decay": 2e-4, **options})


def asp(data: str, pattern: str, net: str = "32", /, **options: Value) -> Run:
    """ASP: half of the steps dense, then pruned once; the learning rate starts again there."""
    return variant(data, "asp", pattern, net, **{"dense_share": 0.5, "restart": 0.5, **options})


LEARNERS: Mapping[str, Callable[[str, str], Run]] = {
    "random": lambda data, pattern: variant(data, "random", pattern),
    "asp": asp,
    "sr-ste": sr_ste,
    "maskllm": lambda data, pattern: variant(data, "maskllm", pattern, noise=0.1, tail=0.3),
    "spikenm": spikenm,
    "spikenm + EID": lambda data, pattern: spikenm(data, pattern, eid=0.1),
}
"""Columns of the table of learners."""


def acceptance() -> Iterator[Run]:
    """Every learner at every pattern on both data sets."""
    for data, patterns in PATTERNS.items():
        yield variant(data)
        for pattern in patterns:
            for name, make in LEARNERS.items():
                if name != "maskllm" or pattern in MASKLLM_PATTERNS:
                    yield make(data, pattern)


def stress_run(pattern: str, eid: float) -> Run:
    """Digits under STRESS with the distillation's weight `eid`."""
    return variant(
        "digits",
        "spikenm",
        pattern,
        **STRESS,
        eid=eid,
    )


def stress() -> Iterator[Run]:
    """Textbook sampling without and with EID."""
    for pattern in STRESS_PATTERNS:
        yield from (stress_run(pattern, 0.0), stress_run(pattern, 1.0))
