"""Bytes of files, and the sentences for bytes that are not what the format says."""

from __future__ import annotations

from pathlib import Path

from spikenm_compile.errors import DataError


def read_bytes(path: Path) -> bytes:
    """The whole file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its place and its permissions") from error


def read_lines(path: Path) -> list[str]:
    """Lines of a text file without their ends.

    Raises:
        DataError: it cannot be read or is no text.
    """
    data = read_bytes(path)
    try:
        return data.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise damaged(path, error.start, "no UTF-8", "text is expected") from error


def damaged(path: Path, offset: int, found: str, supported: str) -> DataError:
    """The error for bytes that do not follow the format.

    Args:
        path: the file.
        offset: the byte at which reading failed.
        found: what stands there.
        supported: what should.
    """
    return DataError(f"{path}, byte {offset}: {found}; {supported}; take a fresh copy of the file")
