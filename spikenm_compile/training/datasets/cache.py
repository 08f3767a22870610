"""A folder of frames that were cut before: one compressed file per sample, named by what it was made from."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikenm_compile.errors import DataError

VERSION = 1
"""Of the way in which frames are cut; another one makes all of them anew."""

Counts = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FrameCache:
    """Frames by their making; a source file that changes makes new ones. Safe for several processes at once."""

    folder: Path

    def get(self, making: object, source: Path, make: Callable[[], Counts]) -> Counts:
        """The frames that `make` gives, kept from an earlier call where there was one.

        Args:
            making: everything but the source that decides about the frames; its repr is the key.
            source: file whose size and time of change belong to the key.
            make: called where there are none yet.

        Raises:
            DataError: a kept file is damaged, or the folder cannot be written.
        """
        path = self._path(making, source)
        if path.exists():
            return _read(path)
        counts = make()
        _write(path, counts)
        return counts

    def _path(self, making: object, source: Path) -> Path:
        try:
            stat = source.stat()
        except OSError as error:
            raise DataError(
                f"{source} cannot be read ({error.strerror}); check its place and its permissions"
            ) from error
        key = f"{VERSION} {making!r} {stat.st_size} {stat.st_mtime_ns}"
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"


def _read(path: Path) -> Counts:
    try:
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file["frames"], np.float32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} is damaged ({error}); the cache holds .npz files of its own; delete this file"
        ) from error


def _write(path: Path, counts: Counts) -> None:
    """Under another name first, so that nobody reads half a file."""
    smallest = np.min_scalar_type(int(counts.max(initial=0.0)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, frames=counts.astype(smallest))
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"the cache {path.parent} cannot be written ({error}); give a folder with room to write"
        ) from error
