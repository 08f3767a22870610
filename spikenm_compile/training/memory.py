"""Ways to save activation memory while a network trains, by the name that `Settings.memory` gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import nn

from spikenm_compile.training.recompute import recomputed

MemorySaver = Callable[[nn.Module], AbstractContextManager[None]]
"""Changes how a model keeps its activations for as long as the context is open, and puts it back."""


@contextmanager
def keep_all(model: nn.Module) -> Iterator[None]:
    """Keep every activation until the backward pass, as PyTorch does."""
    del model
    yield


MEMORY: dict[str, MemorySaver] = {"none": keep_all, "checkpoint-time": recomputed}
"""Name -> what it does."""
