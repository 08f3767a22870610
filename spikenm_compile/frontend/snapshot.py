"""Keep a model as it was while its forward is traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

Attributes = dict[str, Any]


class TrainingFlag(int):
    """`module.training` during a trace: as good as the bool, yet recognisable among the arguments of a traced call."""

    __slots__ = ()


class Snapshot:
    """Attributes of all modules of a model, one level deep into containers."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = {name: (m, _copy_attributes(m)) for name, m in model.named_modules()}

    def restore(self) -> None:
        """Give every module the attributes it had; containers stay the same objects."""
        for module, saved in self._modules.values():
            for key in [k for k in module.__dict__ if k not in saved]:
                del module.__dict__[key]
            for key, (value, content) in saved.items():
                module.__dict__[key] = value
                _refill(value, content)

    def changed(self) -> Iterator[tuple[str, nn.Module, str]]:
        """(module name, module, attribute) of every attribute that is not what it was."""
        for name, (module, saved) in self._modules.items():
            for key, now in module.__dict__.items():
                if key not in saved or not _is_same(now, *saved[key]):
                    yield name, module, key


@contextmanager
def restored(model: nn.Module) -> Iterator[Snapshot]:
    """A block after which `model` has the attributes it had before, whatever ran inside."""
    snapshot = Snapshot(model)
    try:
        yield snapshot
    finally:
        snapshot.restore()


def _copy_attributes(module: nn.Module) -> Attributes:
    return {key: (value, _content(value)) for key, value in module.__dict__.items()}


def _content(value: Any) -> Any:
    return value.copy() if isinstance(value, dict | list | set) else None


def _refill(value: Any, content: Any) -> None:
    if isinstance(value, list):
        value[:] = content
    elif isinstance(value, dict | set):
        value.clear()
        value.update(content)


def _is_same(now: Any, value: Any, content: Any) -> bool:
    if now is not value:
        return False
    if isinstance(now, dict):
        return list(now) == list(content) and all(now[k] is content[k] for k in now)
    if isinstance(now, list):
        return len(now) == len(content) and all(a is b for a, b in zip(now, content, strict=True))
    return not isinstance(now, set) or now == content
