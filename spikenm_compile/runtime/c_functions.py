"""The functions of model.h, the public C interface of a network, as Python methods; arguments are addresses."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spikenm_compile.errors import ArtifactError, InputError, SpikenmError, TargetError
from spikenm_compile.runtime.library import open_library

_POINTER, _INT, _SIZE, _TIME = ctypes.c_void_p, ctypes.c_int32, ctypes.c_size_t, ctypes.c_uint64
_BOTH = (_POINTER, _POINTER)
"""Arena and state, which most functions begin with."""

_ERRORS: dict[int, type[SpikenmError]] = {-3: TargetError, -7: InputError, -8: InputError}
"""Code of model.h -> error; every other one is a library that does not fit its manifest."""


class CFunctions:
    """The functions of one network. Each returns 0 or a count, and raises where the code is below 0.

    Args:
        path: the shared library.
        symbol: how the names of its functions begin.

    Raises:
        TargetError: the system cannot load the library.
        ArtifactError: it lacks a function.
    """

    def __init__(self, path: Path, symbol: str) -> None:
        self._path, self._symbol, self._library = path, symbol, open_library(path)
        self._error = self._library_function("error", (_INT,), ctypes.c_char_p)
        self.arena_size = self._library_function("arena_size", (), _SIZE)
        self.state_size = self._library_function("state_size", (), _SIZE)
        self.init = self._function("init", *_BOTH)
        self.reset = self._function("reset", *_BOTH)
        self.steps = self._function("steps", *_BOTH, _POINTER, _INT, _POINTER)
        self.run = self._function("run", *_BOTH, _POINTER, _INT, _POINTER)
        self.spikes = self._function("spikes", _POINTER, _INT, _INT, _POINTER)
        self.events_begin = self._function("events_begin", *_BOTH, _TIME, ctypes.c_uint32)
        self.events_push = self._function("events_push", *_BOTH, _POINTER, _SIZE, _POINTER, _POINTER)
        self.events_until = self._function("events_until", *_BOTH, _TIME, _POINTER)
        self.events_flush = self._function("events_flush", *_BOTH, _POINTER)

    def _function(self, name: str, *arguments: type) -> Callable[..., int]:
        function = self._library_function(name, arguments, _INT)

        def check(code: int, *_: object) -> int:
            if code < 0:
                sentence = self._error(code).decode()
                raise _ERRORS.get(code, ArtifactError)(f"{self._path}: {self._symbol}_{name}: {sentence}")
            return code

        function.errcheck = check  # type: ignore[attr-defined]
        return function

    def _library_function(self, name: str, arguments: tuple[type, ...], result: type) -> Callable[..., Any]:
        try:
            function = self._library[f"{self._symbol}_{name}"]
        except AttributeError as error:
            raise ArtifactError(
                f"{self._path} lacks the function {self._symbol}_{name}; build the artifact again"
            ) from error
        function.argtypes, function.restype = arguments, result
        return function
