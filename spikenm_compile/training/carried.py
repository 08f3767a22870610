"""How the weights that the package carries were made: `python -m spikenm_compile.training.carried`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from spikenm_compile.compiler import fold, transform
from spikenm_compile.network import CARRIED, EXAMPLES
from spikenm_compile.training.digits import digits_net, load_digits
from spikenm_compile.training.loop import accuracy, total_steps, train

NUM_EXAMPLES = 32


def make_carried(path: Path, seed: int = 0) -> float:
    """Train the digits network at 2:4, fold it, save it with a few digits; returns its test accuracy."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    data = load_digits(seed)
    model = digits_net()
    transform(model, "2:4", total_steps=total_steps(len(data.train_labels)))
    train(model, data, seed=seed)
    fold(model)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file({**tensors, EXAMPLES: data.test_images[:NUM_EXAMPLES].clone()}, path)
    return accuracy(model, data.test_images, data.test_labels)


if __name__ == "__main__":
    print(f"test accuracy {make_carried(CARRIED):.2%}, {CARRIED.stat().st_size} bytes", file=sys.stderr)
