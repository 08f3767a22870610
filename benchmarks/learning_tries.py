"""Schedules that might beat SR-STE at 1:8 and 1:16: tried on validation splits, the best confirmed on test splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.learning_plans import asp, spikenm, sr_ste, variant
from benchmarks.learning_runs import Run, Value

PATTERNS = ("1:8", "1:16")
RAMP: Mapping[str, Value] = {"progressive": 0.5}
QUICK: Mapping[str, Value] = {"lr": 1.2e-2}
QUICKER: Mapping[str, Value] = {"lr": 2.4e-2}
QUICKEST: Mapping[str, Value] = {"lr": 4.8e-2}
FAST: Mapping[str, Value] = {"logit_rate": 90.0}

TRIES: Mapping[str, Mapping[str, Value]] = {
    "as in the table of learners": {},
    "logits 3× as fast": FAST,
    "no noise": {"noise": 0.0},
    "noise 0.03": {"noise": 0.03},
    "noise 0.3": {"noise": 0.3},
    "tail 0.1": {"tail": 0.1},
    "tail 0.1, logits 3× as fast": {"tail": 0.1, **FAST},
    "EID 0.1, logits 3× as fast": {"eid": 0.1, **FAST},
    "weights' lr 6e-3": {"lr": 6e-3},
    "successive softmax": {"relaxation": "softmax"},
    "N falls over 0.3 by halves": {"progressive": 0.3},
    "N falls over 0.5 by halves": RAMP,
    "N falls over 0.65 by halves": {"progressive": 0.65},
    "N falls over 0.5, cubic": {**RAMP, "ramp_law": "cubic"},
    "N falls over 0.5 from M/2": {**RAMP, "start_density": 0.5},
    "N falls over 0.5, no noise": {**RAMP, "noise": 0.0},
    "N falls over 0.5, logits 3× as fast": {**RAMP, **FAST},
    "N falls over 0.5, tail 0.1": {**RAMP, "tail": 0.1},
    "N falls over 0.5, lr 6e-3": {**RAMP, "lr": 6e-3},
    "lr 1.2e-2": QUICK,
    "N falls over 0.5, lr 1.2e-2": {**RAMP, **QUICK},
    "N falls over 0.3, lr 1.2e-2": {"progressive": 0.3, **QUICK},
    "N falls over 0.5, lr 1.2e-2, tail 0.1": {**RAMP, **QUICK, "tail": 0.1},
    "N falls over 0.5, lr 1.2e-2, logits as fast as at 3e-3": {**RAMP, **QUICK, "logit_rate": 7.5},
    "N falls over 0.5, lr 1.2e-2, EID 0.1": {**RAMP, **QUICK, "eid": 0.1},
    "lr 1.2e-2, EID 0.1": {**QUICK, "eid": 0.1},
    "N falls over 0.5, lr 1.2e-2, EID 0.3": {**RAMP, **QUICK, "eid": 0.3},
    "lr 2.4e-2": QUICKER,
    "N falls over 0.5, lr 2.4e-2": {**RAMP, **QUICKER},
    "N falls over 0.5, lr 2.4e-2, EID 0.1": {**RAMP, **QUICKER, "eid": 0.1},
    "N falls over 0.5, lr 2.4e-2, logits 3× as fast": {**RAMP, **QUICKER, **FAST},
    "N falls over 0.5, lr 1.2e-2 again at 0.5": {**RAMP, **QUICK, "restart": 0.5},
    "N falls over 0.5, lr 2.4e-2 again at 0.5": {**RAMP, **QUICKER, "restart": 0.5},
    "N falls over 0.65, lr 2.4e-2, tail 0.1": {"progressive": 0.65, **QUICKER, "tail": 0.1},
    "N falls over 0.5, lr 4.8e-2": {**RAMP, **QUICKEST},
    "N falls over 0.5, lr 4.8e-2, EID 0.1": {**RAMP, **QUICKEST, "eid": 0.1},
    "N falls over 0.5, lr 4.8e-2, EID 0.3": {**RAMP, **QUICKEST, "eid": 0.3},
    "N falls over 0.5, lr 4.8e-2, logits 3× as fast": {**RAMP, **QUICKEST, **FAST},
    "N falls over 0.3, lr 4.8e-2": {"progressive": 0.3, **QUICKEST},
    "N falls over 0.3, lr 4.8e-2, tail 0.1": {"progressive": 0.3, **QUICKEST, "tail": 0.1},
    "N falls over 0.65, lr 4.8e-2, tail 0.1": {"progressive": 0.65, **QUICKEST, "tail": 0.1},
    "N falls over 0.5, lr 9.6e-2": {**RAMP, "lr": 9.6e-2},
}
"""Options of SpikeNM that differ from the table of learners."""

SR_STE_TRIES: Mapping[str, Mapping[str, Value]] = {
    "SR-STE, λ 2e-4": {},
    "SR-STE, λ 0": {"pruned_decay": 0.0},
    "SR-STE, λ 2e-3": {"pruned_decay": 2e-3},
    "SR-STE, λ 2e-2": {"pruned_decay": 2e-2},
    "SR-STE, lr 1.5e-3": {"lr": 1.5e-3},
    "SR-STE, lr 6e-3": {"lr": 6e-3},
    "SR-STE, lr 1.2e-2": QUICK,
    "SR-STE, lr 1.2e-2, λ 2e-3": {**QUICK, "pruned_decay": 2e-3},
    "SR-STE, lr 2.4e-2": QUICKER,
    "SR-STE, lr 2.4e-2, λ 2e-3": {**QUICKER, "pruned_decay": 2e-3},
    "SR-STE, lr 4.8e-2": QUICKEST,
    "SR-STE, lr 4.8e-2, λ 2e-3": {**QUICKEST, "pruned_decay": 2e-3},
    "SR-STE, lr 9.6e-2": {"lr": 9.6e-2},
    "SR-STE, lr 1.2e-2, N falls over 0.5": {**QUICK, **RAMP},
    "SR-STE, lr 2.4e-2, N falls over 0.5": {**QUICKER, **RAMP},
    "SR-STE, lr 4.8e-2, N falls over 0.5": {**QUICKEST, **RAMP},
    "SR-STE, lr 4.8e-2, N falls over 0.3": {**QUICKEST, "progressive": 0.3},
    "SR-STE, lr 4.8e-2, N falls over 0.65": {**QUICKEST, "progressive": 0.65},
    "SR-STE, lr 4.8e-2, N falls over 0.65, cubic": {**QUICKEST, "progressive": 0.65, "ramp_law": "cubic"},
    "SR-STE, lr 4.8e-2, N falls over 0.5, λ 2e-3": {**QUICKEST, **RAMP, "pruned_decay": 2e-3},
}
ASP_TRIES: Mapping[str, Mapping[str, Value]] = {
    "ASP, lr from the start again": {},
    "ASP, lr from half of it again": {"restart_scale": 0.5},
    "ASP, dense for 0.3": {"dense_share": 0.3, "restart": 0.3},
    "ASP, lr 6e-3": {"lr": 6e-3},
    "ASP, lr 1.2e-2": QUICK,
    "ASP, lr 2.4e-2": QUICKER,
    "ASP, lr 4.8e-2": QUICKEST,
}


def dense_tries() -> dict[str, Run]:
    """The dense network at the same learning rates, by name."""
    return {f"dense, lr {lr:g}": variant("event", lr=lr) for lr in (3e-3, 6e-3, 1.2e-2, 2.4e-2, 4.8e-2, 9.6e-2)}


def tries(pattern: str) -> dict[str, Run]:
    """Every try by its name."""
    return {
        **{name: spikenm("event", pattern, **options) for name, options in TRIES.items()},
        **{name: sr_ste("event", pattern, **options) for name, options in SR_STE_TRIES.items()},
        **{name: asp("event", pattern, **options) for name, options in ASP_TRIES.items()},
    }


CHOSEN: Mapping[str, Value] = {"progressive": 0.3, **QUICKEST}
"""Best of SpikeNM, and of SR-STE where N falls: smallest mean cross-entropy over both patterns and splits 0-1."""
CHOSEN_SR_STE: Mapping[str, Value] = {**QUICKER, "pruned_decay": 2e-3}
"""Best of SR-STE where N is constant, as its authors have it."""
CHOSEN_ASP: Mapping[str, Value] = QUICKEST
"""Best of ASP: smallest mean cross-entropy over both patterns."""
COMPARED = (
    ("SpikeNM, N falls", "SR-STE"),
    ("SR-STE, N falls, chosen", "SR-STE, chosen"),
    ("SpikeNM, N falls, chosen", "SR-STE, chosen"),
    ("SpikeNM, N falls, chosen", "SR-STE, N falls, chosen"),
)
"""Names of finalists whose differences are of interest."""


def finalists(pattern: str) -> dict[str, Run]:
    """At the learning rate of the table of learners, and each at its best."""
    return {
        "SR-STE": sr_ste("event", pattern),
        "SpikeNM, N falls": spikenm("event", pattern, **RAMP),
        "SR-STE, chosen": sr_ste("event", pattern, **CHOSEN_SR_STE),
        "SR-STE, N falls, chosen": sr_ste("event", pattern, **CHOSEN),
        "SpikeNM, N falls, chosen": spikenm("event", pattern, **CHOSEN),
    }


def schedules() -> Iterator[Run]:
    """The finalists at both patterns."""
    for pattern in PATTERNS:
        yield from finalists(pattern).values()


def tuning() -> Iterator[Run]:
    """All tries at both patterns."""
    yield from dense_tries().values()
    for pattern in PATTERNS:
        yield from tries(pattern).values()
