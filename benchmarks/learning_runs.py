"""What one run of the learning benchmark is: its settings, its name in the store, and what is measured in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

STEPS = 264
"""Twelve epochs of the training part, 22 batches of 64 each."""
DENSE = "dense"
LOGIT_LEARNERS = ("spikenm", "maskllm")
"""Learners whose masks have logits, and so a schedule."""
Value = float | int | str | bool


@dataclass(frozen=True, slots=True)
class Training:
    """What the loop does, apart from the masks."""

    steps: int = STEPS
    lr: float = 3e-3
    restart: float = 0.0
    """The cosine of the learning rate begins again after this share of the steps; 0: it does not."""
    restart_scale: float = 1.0
    """Learning rate after the restart, times `lr`."""
    zero_init: bool = False
    """Logits begin at 0, not at the weights' magnitudes."""
    constant: bool = False
    """Noise and distillation keep their first value until the tail."""
    he_normal: bool = False
    """First weights of convolutions from He's normal distribution, not torch's uniform one."""
    activity: float = 0.0
    """Firing rate that a penalty brings every layer down to; 0: no penalty."""
    activity_strength: float = 1.0
    """Weight of that penalty."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training. Runs with equal fields give equal results on one machine."""

    data: Literal["digits", "event"]
    split: int
    learner: str = DENSE
    pattern: str = ""
    net: str = "32"
    """Width, or the channels of the convolutions as "11-23-23"."""
    options: tuple[tuple[str, Value], ...] = ()
    """Fields of Training, Schedule and MaskOptions that are not at their default, sorted by name."""
    validate: bool = False
    """Train on four fifths of the training part and measure on the last fifth: to choose settings."""

    @property
    def key(self) -> str:
        """Everything that matters, as text."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))

    @property
    def variant(self) -> Run:
        """The same on no split: what runs of one row of a table have in common."""
        return replace(self, split=-1)

    def to_json(self) -> dict[str, Any]:
        """Fields that differ from their default."""
        values = asdict(self) | {"options": dict(self.options)}
        keep = {f.name: values[f.name] for f in fields(self) if values[f.name] != f.default}
        if not self.options:
            del keep["options"]
        return keep

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Run:
        """Inverse of `to_json`."""
        return cls(**{**values, "options": sorted_options(values.get("options", {}))})

    def training(self) -> Training:
        """The part of the options that the loop looks at."""
        return Training(**{name: value for name, value in self.options if name in TRAINING_FIELDS})  # type: ignore[arg-type]

    def __str__(self) -> str:
        words = [self.data, self.net, self.learner, self.pattern, *(f"{k}={v}" for k, v in self.options)]
        return " ".join(word for word in words if word) + (" (validation)" if self.validate else "")


TRAINING_FIELDS = frozenset(f.name for f in fields(Training))


def sorted_options(options: dict[str, Value]) -> tuple[tuple[str, Value], ...]:
    """Options in the order in which a Run holds them."""
    return tuple(sorted(options.items()))


@dataclass(frozen=True, slots=True)
class Measured:
    """What came out of a run."""

    accuracy: float
    """Test accuracy in points."""
    loss: float
    """Test cross-entropy."""
    rate: float
    """Spikes per neuron and step, mean over the layers of neurons."""
    density: float
    """Share of weights that is not zero, mean over the pruned layers."""
    flips: tuple[float, ...] = field(default=())
    """Share of kept weights that changed over one twelfth of the steps, at three places of the training."""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Rounded to what the sample size supports."""
        rounded = {name: round(value, 4) for name, value in asdict(self).items() if name != "flips"}
        return rounded | {"flips": [round(flip, 3) for flip in self.flips], "seconds": round(self.seconds, 1)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Measured:
        """Inverse of `to_json`."""
        return cls(**{**values, "flips": tuple(values["flips"])})
