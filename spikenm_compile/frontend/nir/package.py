"""The `nir` package, which is imported where it is needed only, and reading its files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from spikenm_compile.errors import InputError, ToolError

_UNREADABLE = (OSError, KeyError, ValueError, TypeError, AssertionError, AttributeError, IndexError, RuntimeError)
"""What h5py and nir raise for files that are no NIR graphs."""


def nir_package() -> Any:
    """The module `nir`.

    Raises:
        ToolError: it is not installed.
    """
    try:
        return importlib.import_module("nir")
    except ImportError as error:
        raise ToolError(
            f"the package nir cannot be imported ({error}); NIR graphs need it; run pip install nir"
        ) from error


def kind_of(node: Any) -> str:
    """Name of a NIR node's class, such as `LIF`."""
    return type(node).__name__


def load_graph(source: Any) -> Any:
    """The `nir.NIRGraph` that is given, or that stands in a file.

    Raises:
        InputError: there is no such file, or it holds no NIR graph.
        ToolError: nir is not installed.
    """
    nir = nir_package()
    if isinstance(source, nir.NIRGraph):
        return source
    if not isinstance(source, str | Path):
        raise InputError(f"a {type(source).__name__} is no NIR graph; give a nir.NIRGraph or the path of a file of one")
    path = Path(source)
    if not path.is_file():
        raise InputError(f"there is no file {path.name!r}; give the path of a NIR graph, as nir.write makes it")
    try:
        return nir.read(path, type_check=False)  # shapes are those that the layers have in PyTorch
    except _UNREADABLE as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")
        raise InputError(
            f"the file {path.name!r} cannot be read as a NIR graph ({reason}); complete files of nir.write are "
            "supported; write it again"
        ) from error
