"""The network of a recipe, with its masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from spikenm_compile.compiler import transform
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.inline.recognize import recognize_neurons
from spikenm_compile.learning.attach import CONVOLUTIONS
from spikenm_compile.network import EXAMPLES, Network, call_factory, load_weights
from spikenm_compile.passes.insert_mask_learners import InsertMaskLearners
from spikenm_compile.pattern import Pattern
from spikenm_compile.training.networks.table import make_network
from spikenm_compile.training.networks.task import Task
from spikenm_compile.training.recipe import MaskChoice, Recipe
from spikenm_compile.training.recipe_data import load_samples, task_of
from spikenm_compile.training.recipe_reader import read_recipe

EXAMPLES_NAME = "example_inputs.safetensors"
"""File beside a recipe that holds the inputs to build its network with."""
WEIGHTS_NAME = "weights.safetensors"
"""File beside a recipe that holds what its training ended with."""
NUM_EXAMPLES = 32
ANY_PATTERN = "2:4"
"""Of layers that are not named, where all that are not named stay dense."""


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
    """Give the layers their masks, in place; nothing where everything is dense.

    Raises:
        PatternError, InputError, CaptureError: see `transform`.
    """
    mask = recipe.mask
    if is_dense(recipe):
        return
    transform(
        model,
        mask.pattern or ANY_PATTERN,
        example_inputs=task.example(2),
        layers=_layers(model, mask),
        options=mask.scheduled(total_steps),
        report=report,
    )


def is_dense(recipe: Recipe) -> bool:
    """Whether no layer gets a mask."""
    return recipe.mask.pattern is None and not any(recipe.mask.layers.values())


def _layers(model: nn.Module, mask: MaskChoice) -> Mapping[str, Pattern | None]:
    """The layers that have a pattern of their own; where the pattern of all others is dense, those too."""
    if mask.pattern is not None:
        return mask.layers
    weighted = (*CONVOLUTIONS, nn.Linear)
    known = [name for name, module in model.named_modules() if isinstance(module, weighted)]
    return {**dict.fromkeys(known), **mask.layers}


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
        _mark_patterns(network, recipe)
    return network


def _mark_patterns(network: Network, recipe: Recipe) -> None:
    """Tell the layers the patterns that they were folded with, as `fold` does."""
    if is_dense(recipe):
        return
    captured = recognize_neurons(capture(network.model, network.example_inputs)).graph_module
    for choice in _insertion(network.model, recipe.mask).choose(captured):
        layer = network.model.get_submodule(choice.layer)
        assert isinstance(layer.weight, Tensor)
        if choice.pattern is not None and choice.pattern.holds(layer.weight):
            layer.nm_pattern = choice.pattern  # type: ignore[assignment]


def _insertion(model: nn.Module, mask: MaskChoice) -> InsertMaskLearners:
    return InsertMaskLearners(mask.pattern or Pattern.parse(ANY_PATTERN), mask.options, _layers(model, mask))


def example_inputs(recipe: Recipe) -> Tensor:
    """The first samples of the test data."""
    samples = load_samples(recipe, "test")
    return torch.stack([samples[index][0] for index in range(min(NUM_EXAMPLES, len(samples)))])
