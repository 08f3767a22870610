"""An artifact as a directory: written under a temporary name and renamed, read with every file checked."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from spikenm_compile.artifact.manifest import MANIFEST_NAME, PREFIX, Manifest, is_plain_name, read_manifest, to_bytes
from spikenm_compile.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class Artifact:
    """A complete artifact whose files are those that were built."""

    path: Path
    manifest: Manifest


def write_artifact(out: Path, fill: Callable[[Path], Manifest]) -> Artifact:
    """Write an artifact to `out`, whole or not at all.

    Args:
        out: the directory to be; an artifact that is there already is replaced at the end.
        fill: writes all files but the manifest into the directory it is given, without folders, and returns the
            manifest without `files` and `digest`.

    Raises:
        ArtifactError: `out` holds something else than an artifact, or `fill` wrote a folder or a manifest.
    """
    out = Path(out).resolve()
    _refuse_foreign(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = _sibling(out, "partial")
    try:
        partial.mkdir()
        manifest = fill(partial)
        manifest = replace(manifest, files={name: _sha256(partial / name) for name in _file_names(partial)})
        (partial / MANIFEST_NAME).write_bytes(to_bytes(manifest))
        written = read_manifest(partial / MANIFEST_NAME)
        _refuse_foreign(out)
        _move(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Artifact(out, written)


def read_artifact(path: Path) -> Artifact:
    """Open an artifact after checking that it is complete and unaltered.

    Raises:
        ArtifactError: the directory or a file is missing, a file was altered or truncated, or one is there that the
            manifest does not list.
    """
    path = Path(path)
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise ArtifactError(f"artifact '{path}' {what}; an artifact is a directory; give the one that build wrote")
    manifest = read_manifest(path / MANIFEST_NAME)
    for name, expected in manifest.files.items():
        _check_file(path / name, expected)
    unlisted = sorted({entry.name for entry in path.iterdir()} - {*manifest.files, MANIFEST_NAME})
    if unlisted:
        raise ArtifactError(
            f"artifact '{path}' holds '{unlisted[0]}', which its {MANIFEST_NAME} does not list; "
            "an artifact holds what build wrote and no more; move it elsewhere"
        )
    return Artifact(path, manifest)


def _check_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ArtifactError(f"artifact '{path.parent}' lacks its file '{path.name}'; copy or build the artifact again")
    if _sha256(path) != expected:
        raise ArtifactError(
            f"{path} was altered or truncated: its sha256 is not the one in {MANIFEST_NAME}; "
            "copy or build the artifact again"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file_names(directory: Path) -> list[str]:
    """Names of the files in `directory`, which may hold plain files only."""
    entries = sorted(directory.iterdir())
    for entry in entries:
        if not entry.is_file() or entry.is_symlink() or not is_plain_name(entry.name):
            raise ArtifactError(
                f"an artifact cannot hold '{entry.name}'; plain files with plain names, none of them "
                f"{MANIFEST_NAME}, are supported; write it under another name"
            )
    return [entry.name for entry in entries]


def _sibling(out: Path, suffix: str) -> Path:
    """A new hidden name beside `out`: on the same file system, so that a rename is one operation."""
    return out.with_name(f".{out.name}.{secrets.token_hex(4)}.{suffix}")


def _refuse_foreign(out: Path) -> None:
    """Only an artifact, or an empty directory, may be replaced."""
    is_empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not is_empty and not _is_artifact(out):
        raise ArtifactError(
            f"'{out}' exists and is not an artifact; only an artifact is replaced; "
            "give another place or remove it first"
        )


def _is_artifact(path: Path) -> bool:
    """Whether there is a manifest that begins as ours do: many programs name a file manifest.json."""
    manifest = path / MANIFEST_NAME
    if not manifest.is_file():
        return False
    with manifest.open("rb") as file:
        return file.read(len(PREFIX)) == PREFIX


def _move(partial: Path, out: Path) -> None:
    """Rename `partial` to `out`; an artifact that is there comes back if that fails."""
    if not out.exists():
        partial.rename(out)
        return
    old = _sibling(out, "old")
    try:
        out.rename(old)
        partial.rename(out)
    except BaseException:
        if not out.exists():
            old.rename(out)
        shutil.rmtree(old, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
