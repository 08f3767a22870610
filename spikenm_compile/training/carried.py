"""How the weights that the package carries were made: `python -m spikenm_compile.training.carried`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from spikenm_compile.compiler import fold, transform
from spikenm_compile.network import CARRIED, EXAMPLES
from spikenm_compile.training.digits import ImageData, digits_net, load_digits
from spikenm_compile.training.gestures import CARRIED_GESTURES, GestureNet, load_gestures
from spikenm_compile.training.loop import EPOCHS, accuracy, total_steps, train

NUM_EXAMPLES = 32
GESTURE_EPOCHS = 20


def make_carried(path: Path, seed: int = 0) -> float:
    """Train the digits network at 2:4, fold it, save it with a few digits; returns its test accuracy."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    data, model = load_digits(seed), digits_net()
    trained = _train_sparse(model, data, EPOCHS, seed)
    save_file({**trained, EXAMPLES: data.test_images[:NUM_EXAMPLES].clone()}, path)
    return accuracy(model, data.test_images, data.test_labels)


def make_gestures(path: Path, seed: int = 0) -> float:
    """Train the gesture network at 2:4, fold it, save it; returns its test accuracy."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    data, model = load_gestures(seed=seed), GestureNet()
    save_file(_train_sparse(model, data, GESTURE_EPOCHS, seed), path)
    return accuracy(model, data.test_images, data.test_labels)


def _train_sparse(model: nn.Module, data: ImageData, epochs: int, seed: int) -> dict[str, torch.Tensor]:
    transform(
        model, "2:4", example_inputs=data.train_images[:4], total_steps=total_steps(len(data.train_labels), epochs)
    )
    train(model, data, epochs=epochs, seed=seed)
    fold(model)
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


if __name__ == "__main__":
    for make, path in ((make_carried, CARRIED), (make_gestures, CARRIED_GESTURES)):
        print(f"{path.name}: test accuracy {make(path):.2%}, {path.stat().st_size} bytes", file=sys.stderr)
