"""A shared library with the C interface of native artifacts (artifact.code), behind Python functions."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable
from pathlib import Path

from spikenm_compile.errors import ArtifactError, TargetError

_CALL = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)
_PREPARE = (ctypes.c_void_p, ctypes.c_void_p)


class Library:
    """The four functions of a native artifact. Arguments are addresses; each call raises ArtifactError if it fails.

    Raises:
        TargetError: the system cannot load the library.
        ArtifactError: it lacks a function.
    """

    def __init__(self, path: Path) -> None:
        self._library = open_library(path)
        self.prepare = self._function("spikenm_prepare", _PREPARE, path)
        self.before = self._function("spikenm_before", _CALL, path)
        self.steps = self._function("spikenm_steps", _CALL, path)
        self.after = self._function("spikenm_after", _CALL, path)

    def _function(self, name: str, arguments: tuple[type, ...], path: Path) -> Callable[..., None]:
        try:
            function = self._library[name]
        except AttributeError as error:
            raise ArtifactError(f"{path} lacks the function {name}; build the artifact again") from error

        def check(code: int, *_: object) -> None:
            if code != 0:
                raise ArtifactError(f"{path}: {name} failed with code {code}; build the artifact again")

        function.argtypes = arguments
        function.restype = ctypes.c_int32
        function.errcheck = check  # type: ignore[assignment]
        return function


def open_library(path: Path) -> ctypes.CDLL:
    """Load through a link with a new name: the loader takes an equal name for the library it has already, even if the
    file was replaced by a later build.
    """
    with tempfile.TemporaryDirectory(prefix="spikenm-") as directory:
        link = Path(directory) / path.name
        link.symlink_to(path.resolve())
        try:
            return ctypes.CDLL(str(link))
        except OSError as error:
            reason = str(error).removeprefix(f"{link}: ")
            raise TargetError(
                f"{path} cannot be loaded ({reason}); build the artifact for a target of this machine"
            ) from error
