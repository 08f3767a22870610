"""How much memory tensors take while a piece of code runs: every storage that an operation makes, until it is freed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class PeakMemory(TorchDispatchMode):
    """A context; behind it, `bytes` is the largest sum of the storages that were made inside and alive together.

    Temporary memory inside of one operation is not seen, and neither is what allocators waste.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self._now = 0
        self._known: dict[int, weakref.finalize[[int, int], Any]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation; note the storages that it made."""
        given = {_key(tensor) for tensor in tree_iter((args, kwargs)) if isinstance(tensor, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor) and _key(tensor) not in given:
                self._note(tensor)
        return result

    def _note(self, tensor: Tensor) -> None:
        storage, key = tensor.untyped_storage(), _key(tensor)
        if key in self._known:
            return
        size = storage.nbytes()
        self._now += size
        self.bytes = max(self.bytes, self._now)
        self._known[key] = weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._now -= size
        self._known.pop(key, None)


def _key(tensor: Tensor) -> int:
    """Number of the storage behind a tensor; other tensors on it have the same."""
    return int(tensor.untyped_storage()._cdata)


def peak_of(run: Callable[[], object]) -> int:
    """Peak bytes of `run()`."""
    peak = PeakMemory()
    with peak, torch.enable_grad():
        run()
    return peak.bytes
