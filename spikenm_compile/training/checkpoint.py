"""Checkpoints on disk: tensors in one safetensors file, the rest in JSON, complete or not there at all.

    run_dir/step-00000120-3f9a….safetensors     tensors; named by their digest, so that none is ever overwritten
    run_dir/checkpoint.json                     names that file; replacing this one is the moment the new one counts

Each file is written under a temporary name, flushed to the disk and renamed; the files of the checkpoint before are
deleted last. So whenever the process is killed, `checkpoint.json` names a complete checkpoint. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from spikenm_compile.errors import CheckpointError

SCHEMA = 1
NAME = "checkpoint.json"
TENSORS = "step-*.safetensors"
UNFINISHED = ".unfinished"
START_AGAIN = "give another run_dir, or remove this one to start again"


@dataclass(frozen=True)
class Checkpoint:
    """A training between two steps."""

    step: int
    """Optimiser steps done."""
    training: Mapping[str, Any]
    """What it is the training of: JSON values; a continuation has the same."""
    numbers: Mapping[str, Any]
    """State that is not tensors: JSON values."""
    tensors: Mapping[str, Tensor]


def write_checkpoint(run_dir: Path, checkpoint: Checkpoint) -> None:
    """Make `checkpoint` the one of `run_dir`; the one before stays until then."""
    run_dir.mkdir(parents=True, exist_ok=True)
    unfinished = run_dir / f"tensors{UNFINISHED}"
    save_file(dict(checkpoint.tensors), unfinished)
    digest = _digest(unfinished)
    tensors = run_dir / f"step-{checkpoint.step:08}-{digest[:16]}.safetensors"
    _settle(unfinished, tensors)
    content = {
        "schema": SCHEMA,
        "step": checkpoint.step,
        "training": checkpoint.training,
        "numbers": checkpoint.numbers,
        "tensors": {"file": tensors.name, "sha256": digest},
    }
    replace_file(run_dir / NAME, json.dumps({**content, "sha256": _digest_of(content)}, indent=1) + "\n")
    for old in run_dir.glob(TENSORS):
        if old != tensors:
            old.unlink(missing_ok=True)


def read_checkpoint(run_dir: Path) -> Checkpoint | None:
    """The checkpoint of `run_dir`, or None where there is none. Changes nothing on disk.

    Raises:
        CheckpointError: it cannot be used.
    """
    path = run_dir / NAME
    if not path.exists():
        return None
    content = _read_json(path)
    tensors = run_dir / content["tensors"]["file"]
    if not tensors.is_file():
        raise CheckpointError(f"'{path}' names '{tensors.name}', which is missing; put it back, or {START_AGAIN}")
    if _digest(tensors) != content["tensors"]["sha256"]:
        raise CheckpointError(f"'{tensors}' is not as it was written (its SHA-256 differs); {START_AGAIN}")
    try:
        loaded = load_file(tensors)
    except SafetensorError as error:
        raise CheckpointError(f"'{tensors}' cannot be read ({error}); {START_AGAIN}") from error
    return Checkpoint(content["step"], content["training"], content["numbers"], loaded)


def replace_file(path: Path, text: str) -> None:
    """Write `text` such that `path` has the old or the new content, never a part of it."""
    unfinished = path.with_name(path.name + UNFINISHED)
    unfinished.write_text(text)
    _settle(unfinished, path)


def check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], run_dir: Path) -> None:
    """Refuse to continue one training as another.

    Raises:
        CheckpointError: names the first difference.
    """
    there, here = _flat(found), _flat(json.loads(json.dumps(wanted)))
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            raise CheckpointError(
                f"the checkpoint in '{run_dir}' is of a training with {name}={there.get(name)!r}, and this one has "
                f"{here.get(name)!r}; use the same to go on, or {START_AGAIN}"
            )


def _settle(unfinished: Path, path: Path) -> None:
    """Flush a file to the disk, then give it its name."""
    _flush(unfinished)
    os.replace(unfinished, path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"'{path}' is not JSON ({error}); {START_AGAIN}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise CheckpointError(
            f"'{path}' is not a checkpoint of schema {SCHEMA}, the one this version reads; "
            f"use the version that wrote it, or {START_AGAIN}"
        )
    if content.pop("sha256", None) != _digest_of(content):
        raise CheckpointError(f"'{path}' is not as it was written (its SHA-256 differs); {START_AGAIN}")
    return content


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by dots."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= _flat(inner, f"{prefix}{name}.") if isinstance(inner, dict) else {f"{prefix}{name}": inner}
    return found
