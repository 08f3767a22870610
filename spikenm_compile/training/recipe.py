"""A training as one TOML file: the data, the network, the masks, the settings, and where results go.

    [data]      name = "cifar10"   root = "data/cifar10"   steps = 4
    [network]   name = "vgg16"     ... arguments of the network
    [mask]      pattern = "2:4"    ... options of the learner and of its schedule
    [mask.layers]   "body.0.1.conv" = "1:4"   "body.2" = "dense"
    [mask.weight_types]   "body.2" = "int8"
    [training]  epochs = 300       ... fields of `Settings`
    [output]    dir = "out/cifar10-vgg16"

Paths in a recipe count from the folder where it is, `dir` from where the training is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from spikenm_compile.learning import MaskOptions
from spikenm_compile.pattern import Pattern
from spikenm_compile.training.settings import Settings
from spikenm_compile.weight_types import WeightType

DENSE = "dense"
"""Written instead of a pattern: no mask."""


@dataclass(frozen=True, slots=True)
class DataChoice:
    """[data]: what to train on."""

    name: str
    """A name of `training.datasets.registry`."""
    root: str = ""
    """Folder with the files of the set; "" for sets that are made on this machine."""
    steps: int = 0
    """T: steps of each image, or frames of each recording; 0: 4 of images, the set's own of events."""
    encoder: Literal["direct", "rate", "latency"] = "direct"
    """How images become steps (`training.encoders`)."""
    frames: Literal["count", "time"] | None = None
    """Whether a recording is cut into frames of equally many events or of equal time; None: as is usual for the set."""
    step_us: int | None = None
    """Microseconds of a frame, by time; None: the whole recording is shared out."""
    size: int = 0
    """Height and width that images and frames are scaled to; 0: as they are."""
    augment: Literal["none", "shift", "shift-flip"] = "none"
    """Training samples are shifted by up to an eighth of their size, and mirrored half of the time."""
    cache: str = ""
    """Folder that keeps frames of recordings; "": none."""
    seed: int = 0
    """Of sets that are made or split on this machine."""


@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """[network]: what to train."""

    name: str
    """A name of `training.networks.table`, or FILE.py:factory as `build` takes it."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Arguments of a network of the table."""

    @property
    def is_file(self) -> bool:
        """Whether it is a file of the user's."""
        return ".py:" in self.name


@dataclass(frozen=True, slots=True)
class MaskChoice:
    """[mask]: what to prune, and how masks are learned."""

    pattern: Pattern | None
    """Of the layers that `layers` does not name; None: everything is dense."""
    options: MaskOptions
    layers: Mapping[str, Pattern | None]
    weight_types: Mapping[str, WeightType] = field(default_factory=dict)
    """Layers that become other whole numbers than the options say."""

    @property
    def is_empty(self) -> bool:
        """Whether every layer stays dense and a float."""
        numbers = self.options.weight_type or self.weight_types
        return self.pattern is None and not any(self.layers.values()) and not numbers

    def scheduled(self, total_steps: int) -> MaskOptions:
        """The options of a training of so many steps."""
        return replace(self.options, schedule=replace(self.options.schedule, total_steps=total_steps))


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole training."""

    path: Path
    data: DataChoice
    network: NetworkChoice
    mask: MaskChoice
    training: Settings
    out: Path
    tables: Mapping[str, Mapping[str, Any]]
    """What was read, with what the command line changed."""

    def beside(self, path: str) -> Path:
        """A path of the recipe, seen from where the program runs."""
        return self.path.parent / path
