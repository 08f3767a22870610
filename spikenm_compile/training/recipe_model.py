"""The network of a recipe, with its masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from spikenm_compile.compiler import transform
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.inline.recognize import recognize_neurons
from spikenm_compile.marks import PATTERN, WEIGHT_TYPE
from spikenm_compile.network import EXAMPLES, Network, call_factory, load_weights
from spikenm_compile.passes.insert_mask_learners import InsertMaskLearners
from spikenm_compile.training.networks.table import make_network
from spikenm_compile.training.networks.task import Task
from spikenm_compile.training.recipe import MaskChoice, Recipe
from spikenm_compile.training.recipe_data import load_samples, task_of
from spikenm_compile.training.recipe_reader import read_recipe
from spikenm_compile.weight_types import ON_GRID, relative_error

EXAMPLES_NAME = "example_inputs.safetensors"
"""File beside a recipe that holds the inputs to build its network with."""
WEIGHTS_NAME = "weights.safetensors"
"""File beside a recipe that holds what its training ended with."""
NUM_EXAMPLES = 32


def make_model(recipe: Recipe, task: Task) -> nn.Module:
    """A fresh network; its weights come from the seed of the training.

    Raises:
        InputError, ToolError: see `make_network` and `call_factory`.
    """
    torch.manual_seed(recipe.training.seed)
    if recipe.network.is_file:
        return call_factory(str(recipe.beside(recipe.network.name))).model
    return make_network(
        recipe.network.name, task, recipe.network.options, lambda _key: f"recipe '{recipe.path}', [network]"
    )


def add_masks(
    model: nn.Module, recipe: Recipe, task: Task, total_steps: int, report: Callable[[str], None] | None
) -> None:
    """Give the layers their masks and whole numbers, in place; nothing where the recipe asks for none.

    Raises:
        PatternError, InputError, CaptureError: see `transform`.
    """
    mask = recipe.mask
    if mask.is_empty:
        return
    transform(
        model,
        mask.pattern,
        example_inputs=task.example(2),
        layers=mask.layers,
        weight_types=mask.weight_types,
        options=mask.scheduled(total_steps),
        report=report,
    )


def network_of_recipe(path: Path, weights: Path | None) -> Network:
    """The network of a recipe as `build` takes it, with samples of the test data as example inputs.

    Args:
        path: the recipe; of a training that is done, the one that it left in its directory.
        weights: what the training left; None: the file beside the recipe where there is one.

    Raises:
        SpikenmError: the recipe cannot be read, or its data, or the weights do not fit.
    """
    recipe = read_recipe(path)
    model = make_model(recipe, task_of(recipe.data)).eval()
    trained, examples = path.parent / WEIGHTS_NAME, path.parent / EXAMPLES_NAME
    weights = weights or (trained if trained.is_file() else None)
    inputs = load_file(examples)[EXAMPLES] if examples.is_file() else example_inputs(recipe)
    network = Network(model, inputs, path.parent.name if examples.is_file() else path.stem)
    if weights is not None:
        load_weights(network, weights)
        _mark_layers(network, recipe.mask)
    return network


def _mark_layers(network: Network, mask: MaskChoice) -> None:
    """Tell the layers the patterns and whole numbers that they were folded with, as `fold` does."""
    if mask.is_empty:
        return
    captured = recognize_neurons(capture(network.model, network.example_inputs)).graph_module
    insertion = InsertMaskLearners(mask.pattern, mask.options, mask.layers, mask.weight_types)
    for choice in insertion.choose(captured):
        layer, kind = network.model.get_submodule(choice.layer), choice.weight_type
        assert isinstance(layer.weight, Tensor)
        if choice.pattern is not None and choice.pattern.holds(layer.weight):
            setattr(layer, PATTERN, choice.pattern)
        if kind is not None and relative_error(layer.weight, kind) <= ON_GRID:
            setattr(layer, WEIGHT_TYPE, kind)


def example_inputs(recipe: Recipe) -> Tensor:
    """The first samples of the test data."""
    samples = load_samples(recipe, "test")
    return torch.stack([samples[index][0] for index in range(min(NUM_EXAMPLES, len(samples)))])
