"""Accuracy on the digits, paired by seed: dense, learned N:M folded, and the native artifact built from it.

Exit status 1 if, in the mean over the seeds, 2:4 is more than 0.5 points below dense, or an artifact is more than 0.3
points away from its folded float model.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from spikenm_compile import compile_model, fold, load, transform
from spikenm_compile.training.digits import ImageData, digits_net, load_digits
from spikenm_compile.training.loop import EPOCHS, accuracy, total_steps, train

GATED_PATTERN = "2:4"
LARGEST_LOSS_POINTS = 0.5
LARGEST_ARTIFACT_POINTS = 0.3


def trained(pattern: str | None, data: ImageData, seed: int, epochs: int) -> nn.Module:
    """The digits network after training, with the masks folded; `pattern` None is the dense network."""
    torch.manual_seed(seed)
    model: nn.Module = digits_net()
    if pattern is not None:
        steps = total_steps(len(data.train_labels), epochs)
        transform(model, pattern, total_steps=steps, report=None)
    train(model, data, epochs=epochs, seed=seed)
    if pattern is not None:
        fold(model)
    return model.eval()


def points(model: nn.Module, data: ImageData) -> float:
    """Test accuracy of a float model in points."""
    return 100.0 * accuracy(model, data.test_images, data.test_labels)


def artifact_points(model: nn.Module, data: ImageData, pattern: str) -> float:
    """Test accuracy in points of the native artifact built from the model."""
    with TemporaryDirectory() as scratch:
        artifact = compile_model(model, data.train_images[:256], Path(scratch) / "artifact", pattern=pattern)
        predicted = torch.from_numpy(load(artifact.path).run(data.test_images.numpy())).argmax(1)
    return 100.0 * float((predicted == data.test_labels).float().mean())


def row(name: str, values: Sequence[float], base: Sequence[float]) -> str:
    """One line of the table: mean ± standard deviation, and the mean difference to `base` ± its standard error."""
    differences = [value - b for value, b in zip(values, base, strict=True)]
    error = _deviation(differences) / len(values) ** 0.5
    return (
        f"{name:<14}{statistics.mean(values):7.2f} ± {_deviation(values):4.2f}"
        f"{statistics.mean(differences):+10.2f} ± {error:4.2f}   {' '.join(f'{value:.2f}' for value in values)}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="number of splits and initialisations (default 3)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"length of each training (default {EPOCHS})")
    parser.add_argument(
        "--patterns", nargs="+", default=[GATED_PATTERN], metavar="N:M", help="patterns to learn (default 2:4)"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sets = [load_digits(seed) for seed in range(options.seeds)]
    print(f"scikit-learn digits, {options.epochs} epochs, {options.seeds} seeds; accuracy on the test fifth, in points")
    print(f"{'':<14}{'mean ± std':>14}{'difference ± s.e.':>19}   per seed", flush=True)
    dense = [points(trained(None, data, seed, options.epochs), data) for seed, data in enumerate(sets)]
    print(row("dense", dense, dense), "  (difference to itself)", flush=True)
    failures = []
    for pattern in options.patterns:
        models = [trained(pattern, data, seed, options.epochs) for seed, data in enumerate(sets)]
        folded = [points(model, data) for model, data in zip(models, sets, strict=True)]
        built = [artifact_points(model, data, pattern) for model, data in zip(models, sets, strict=True)]
        print(row(f"{pattern} folded", folded, dense), "  (to dense)", flush=True)
        print(row(f"{pattern} artifact", built, folded), "  (to folded)", flush=True)
        if pattern == GATED_PATTERN and statistics.mean(folded) < statistics.mean(dense) - LARGEST_LOSS_POINTS:
            failures.append(f"{pattern} is more than {LARGEST_LOSS_POINTS} points below dense")
        if abs(statistics.mean(built) - statistics.mean(folded)) > LARGEST_ARTIFACT_POINTS:
            failures.append(f"the {pattern} artifact is over {LARGEST_ARTIFACT_POINTS} points off its float model")
    for failure in failures:
        print(f"FAIL: {failure}")
    return 1 if failures else 0


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    raise SystemExit(main())
