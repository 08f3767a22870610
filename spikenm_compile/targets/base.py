"""What a target is: facts, and a build."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch.fx import GraphModule

from spikenm_compile.targets.cpu import Cpu

Emit = Callable[[str, str], None]
"""Called with the name and the text of what a level of the compiler made."""


def no_emit(_name: str, _text: str) -> None:
    """Nobody wants to read along."""


Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass(frozen=True)
class Contents:
    """What an artifact stores beside its code, for targets whose code holds it too."""

    tensors: Arrays
    """<layer>.values, .metadata, .scale, .bias, <layer>.<constant>."""
    vectors: Arrays
    """input, output and spikes.<layer> of a few samples."""


class Target(Protocol):
    """Something that an artifact can be built for."""

    @property
    def name(self) -> str:
        """The name on the command line."""
        ...

    @property
    def summary(self) -> str:
        """One line for `--help` and `doctor`."""
        ...

    @property
    def families(self) -> tuple[str, ...]:
        """Kernel families it has (passes.select_kernels), best first."""
        ...

    @property
    def known_cpu(self) -> Cpu | None:
        """The CPU that kernels are chosen for by their time; None: the first family that takes a layer is chosen."""
        ...

    def build(
        self,
        lowered: GraphModule,
        directory: Path,
        *,
        name: str,
        num_steps: int,
        emit: Emit = no_emit,
        contents: Contents | None = None,
    ) -> dict[str, Any]:
        """Write the target's code into `directory` and return the manifest's `code` section."""
        ...
