"""A recipe from its data to weights that `build` takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from spikenm_compile.compiler import fold
from spikenm_compile.network import EXAMPLES
from spikenm_compile.training.checkpoint import read_checkpoint
from spikenm_compile.training.distributed import process_group, this_world
from spikenm_compile.training.evaluation import share_recognised
from spikenm_compile.training.networks.task import Task
from spikenm_compile.training.progress_bar import progress_bar
from spikenm_compile.training.recipe import Recipe
from spikenm_compile.training.recipe_data import load_samples, task_of
from spikenm_compile.training.recipe_model import (
    EXAMPLES_NAME,
    WEIGHTS_NAME,
    add_masks,
    example_inputs,
    make_model,
)
from spikenm_compile.training.trainer import run_training

RECIPE_NAME = "recipe.toml"


def run_recipe(recipe: Recipe, *, resume: bool) -> str:
    """Train, fold, save; prints the layers as it begins, and returns the closing lines.

    Args:
        recipe: what to do.
        resume: go on from the checkpoint in its directory, where there is one.

    Under torchrun every process has to call it; all but the first return "".

    Raises:
        SpikenmError: the data, the network, the masks or the directory are not as the recipe says.
    """
    task = task_of(recipe.data)
    train, test = load_samples(recipe, "train"), load_samples(recipe, "test")
    steps = recipe.training.total_steps(len(train))
    with process_group() as world, progress_bar(f"train {recipe.network.name}", steps) as show:
        model = make_model(recipe, task)
        add_masks(model, recipe, task, steps, print if world.is_first else None)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        observers = [show] if world.is_first else []
        run_training(model, train, recipe.training, recipe.out, observers, test=test, resume=resume)
    if not world.is_first:
        return ""
    folded = _folded(recipe, task, steps)
    share = share_recognised(folded, test, this_world())
    _save(folded, recipe)
    return f"test accuracy {share:.2%} of {len(test)} samples\nweights: {recipe.out / WEIGHTS_NAME}\n{_next(recipe)}"


def _folded(recipe: Recipe, task: Task, steps: int) -> nn.Module:
    """The trained network with its masks folded, from the last checkpoint, which is whole however it was trained."""
    checkpoint = read_checkpoint(recipe.out)
    assert checkpoint is not None
    model = make_model(recipe, task)
    add_masks(model, recipe, task, steps, None)
    prefix = "model/"
    state = {k.removeprefix(prefix): tensor for k, tensor in checkpoint.tensors.items() if k.startswith(prefix)}
    model.load_state_dict(state)
    return model if recipe.mask.is_empty else fold(model)


def _save(model: nn.Module, recipe: Recipe) -> None:
    """Weights, examples to build with, and the recipe with its paths as they are seen from there."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, recipe.out / WEIGHTS_NAME)
    save_file({EXAMPLES: example_inputs(recipe).contiguous()}, recipe.out / EXAMPLES_NAME)
    (recipe.out / RECIPE_NAME).write_text(to_toml(_moved(recipe)), encoding="utf-8")


def _next(recipe: Recipe) -> str:
    pattern = recipe.mask.pattern
    plain = f" --pattern {pattern.n}:{pattern.m}" if pattern is not None else ""
    out = recipe.out
    return (
        f"build it: python -m spikenm_compile build {out / RECIPE_NAME}{plain} --target native --out {out / 'artifact'}"
    )


def _moved(recipe: Recipe) -> dict[str, Any]:
    """The tables of the recipe for the directory of its results."""
    tables = {name: dict(table) for name, table in recipe.tables.items()}
    for table, key in (("data", "root"), ("data", "cache")):
        if tables.get(table, {}).get(key):
            tables[table][key] = _seen_from(recipe.out, recipe.beside(tables[table][key]))
    if recipe.network.is_file:
        file, _, factory = recipe.network.name.rpartition(":")
        tables["network"]["name"] = f"{_seen_from(recipe.out, recipe.beside(file))}:{factory}"
    tables["output"] = {"dir": str(recipe.out)}
    return tables


def _seen_from(folder: Path, path: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def to_toml(tables: Mapping[str, Mapping[str, Any]], prefix: str = "") -> str:
    """Tables as TOML; values are texts, numbers, truth values, lists of them, and tables."""
    parts = []
    for name, table in tables.items():
        path = f"{prefix}{name}"
        values = {key: value for key, value in table.items() if not isinstance(value, dict)}
        inner = {key: value for key, value in table.items() if isinstance(value, dict)}
        parts.append("\n".join([f"[{path}]", *(f"{_key(key)} = {_toml(value)}" for key, value in values.items()), ""]))
        if inner:
            parts.append(to_toml(inner, f"{path}."))
    return "\n".join(parts)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return _text(value) if isinstance(value, str) else repr(value)


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() and name.isascii() else _text(name)


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
