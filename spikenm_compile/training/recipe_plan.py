"""What a recipe would do, as text: data, network, layers and patterns, memory and time. Nothing is read or written."""

from __future__ import annotations

from torch import nn

from spikenm_compile.training.datasets.registry import dataset_kind
from spikenm_compile.training.estimate import Estimate, estimate_training
from spikenm_compile.training.networks.task import Task
from spikenm_compile.training.recipe import Recipe
from spikenm_compile.training.recipe_data import task_of
from spikenm_compile.training.recipe_model import add_masks, make_model

DAY, HOUR, MINUTE = 86400, 3600, 60
UNITS = ("B", "kB", "MB", "GB", "TB")


def plan_recipe(recipe: Recipe) -> str:
    """The plan of a training; its cost is estimated from small batches of noise on this machine.

    Raises:
        SpikenmError: what would stop the training before its first step, but for files that are missing.
    """
    task = task_of(recipe.data)
    steps = recipe.training.total_steps(dataset_kind(recipe.data.name).num_train)
    model = make_model(recipe, task)
    choices: list[str] = []
    add_masks(model, recipe, task, steps, choices.append)
    cost = estimate_training(model, task, recipe.training)
    lines = [
        f"data      {_data(recipe, task)}",
        f"network   {recipe.network.name}: {_weights(model)} weights",
        *(choices or ["masks     none: every layer is dense"]),
        f"training  {_training(recipe, steps)}",
        f"memory    {_memory(cost)}",
        f"time      about {duration(cost.step_seconds * steps)} on this CPU ({duration(cost.step_seconds)} per step)",
        f"output    {recipe.out}",
    ]
    return "\n".join(lines)


def _data(recipe: Recipe, task: Task) -> str:
    choice, kind = recipe.data, dataset_kind(recipe.data.name)
    how = f"T = {task.num_steps}, {'in time' if task.has_time else 'the same at each step'}"
    numbers = f"{kind.num_train} / {kind.num_test} samples"
    sample = "×".join(map(str, task.sample))
    return f"{choice.name}: {sample}, {task.classes} classes, {how}; {numbers}; {_files(recipe)}"


def _files(recipe: Recipe) -> str:
    source = dataset_kind(recipe.data.name).source
    if source is None:
        return "no files are needed"
    if not recipe.data.root:
        return f"root is not given; expected there are {source.expects}"
    root = recipe.beside(recipe.data.root)
    return f"'{root}' {'exists' if root.is_dir() else 'does not exist yet'}; expected there are {source.expects}"


def _training(recipe: Recipe, steps: int) -> str:
    settings = recipe.training
    ways = [settings.precision, f"memory = {settings.memory}", f"accumulate = {settings.accumulate}"]
    return (
        f"{settings.epochs} epochs, {steps} steps of {settings.batch_size} samples, {settings.optimizer}, lr "
        f"{settings.lr:g} ({settings.lr_schedule}); {', '.join(ways)}"
    )


def _memory(cost: Estimate) -> str:
    parts = {
        "weights and masks": cost.parameter_bytes + cost.buffer_bytes,
        "optimiser": cost.optimizer_bytes,
        "activations and gradients": cost.working_bytes,
    }
    return f"{size(cost.memory_bytes)}: " + ", ".join(f"{name} {size(number)}" for name, number in parts.items())


def _weights(model: nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if not name.endswith(".mask.logits"))


def size(number: float) -> str:
    """Bytes with a unit."""
    for unit in UNITS[:-1]:
        if number < 1000:
            return f"{_short(number)} {unit}"
        number /= 1000
    return f"{_short(number)} {UNITS[-1]}"


def duration(seconds: float) -> str:
    """Seconds with a unit."""
    for unit, name in ((DAY, "days"), (HOUR, "h"), (MINUTE, "min"), (1, "s")):
        if seconds >= unit:
            return f"{_short(seconds / unit)} {name}"
    return f"{_short(1000 * seconds)} ms"


def _short(number: float) -> str:
    """Three digits, or more in front of the point."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
