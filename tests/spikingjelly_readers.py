"""SpikingJelly's readers of event sets, importable without torchvision, of which they use nothing to read a file."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_NAMES = {
    "torchvision": ("transforms",),
    "torchvision.datasets": ("DatasetFolder",),
    "torchvision.datasets.utils": ("check_integrity", "download_url", "extract_archive"),
}


@contextmanager
def _stubs() -> Iterator[None]:
    """Stand-ins for torchvision where it is missing, and SpikingJelly's package of data sets without its __init__."""
    added: dict[str, Any] = {name: types.ModuleType(name) for name in _NAMES if name not in sys.modules}
    for name, module in added.items():
        for attribute in _NAMES[name]:
            setattr(module, attribute, object)
    spec = find_spec("spikingjelly")
    assert spec is not None
    assert spec.origin is not None
    package = types.ModuleType("spikingjelly.datasets")
    package.__path__ = [str(Path(spec.origin).parent / "datasets")]
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith(package.__name__)}
    sys.modules.update(added | {package.__name__: package})
    try:
        yield
    finally:
        for name in [n for n in sys.modules if n in added or n.startswith(package.__name__)]:
            del sys.modules[name]
        sys.modules.update(before)


def spikingjelly_reader(name: str) -> Any:
    """The module `spikingjelly.datasets.NAME`."""
    with _stubs():
        return importlib.import_module(f"spikingjelly.datasets.{name}")
