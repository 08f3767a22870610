"""Motions of a bright hand in front of an event camera, made on the fly: eight classes that a single frame cannot tell.

The hand sweeps right, left, up or down, circles clockwise or counterclockwise, approaches or withdraws, at a random
place, size, speed and brightness over a textured background, and `EventCamera` turns the scene into address-events.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from spikenm_compile.neurons import LIF
from spikenm_compile.training.digits import ImageData
from spikenm_compile.training.event_camera import EventCamera, Events, bin_events

CLASSES = ("right", "left", "up", "down", "clockwise", "counterclockwise", "approach", "withdraw")
SIZE = 32
"""Height and width of the camera in pixels."""
NUM_STEPS = 16
STEP_US = 10_000
"""Microseconds of one time step."""
CARRIED_GESTURES = Path(__file__).parent / "gestures-2of4.safetensors"
"""Weights of `GestureNet`, trained at 2:4 and folded."""
MILLISECONDS = NUM_STEPS * STEP_US // 1000

Array = npt.NDArray[np.float64]


class GestureNet(nn.Module):
    """Three spiking convolutions and a linear classifier; the output is the mean over the time steps so far."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = _block(2, 16)
        self.block2 = _block(16, 32)
        self.block3 = _block(32, 64)
        self.neurons = nn.ModuleList(LIF(tau=2.0, decay_input=False) for _ in range(3))
        self.classifier = nn.Linear(64 * 4 * 4, len(CLASSES))

    def forward(self, counts: Tensor) -> Tensor:
        """Counts [B, T, 2, 32, 32] to class logits [B, 8]; reset the neurons before each call."""
        x = counts.transpose(0, 1)
        steps = x.shape[0]
        for block, lif in zip((self.block1, self.block2, self.block3), self.neurons, strict=True):
            x = lif(block(x.flatten(0, 1)).unflatten(0, (steps, -1)))
        logits = self.classifier(x.flatten(0, 1).flatten(1))
        mean: Tensor = logits.unflatten(0, (steps, -1)).mean(0)
        return mean


def carried_gesture_net() -> GestureNet:
    """The trained network, in evaluation mode."""
    net = GestureNet()
    net.load_state_dict(load_file(CARRIED_GESTURES))
    return net.eval()


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, padding=1, bias=False), nn.BatchNorm2d(outputs))


def gesture_events(label: int, seed: int) -> Events:
    """Address-events of one gesture of `MILLISECONDS`; the same for the same label and seed."""
    rng = np.random.default_rng((label, seed))
    return EventCamera().record(_scene(CLASSES[label], rng), rng)


def load_gestures(num_train: int = 1024, num_test: int = 256, seed: int = 0) -> ImageData:
    """Gestures as counts [N, T, 2, 32, 32] and labels [N], every class equally often."""
    train = _counts(num_train, 2 * seed)
    test = _counts(num_test, 2 * seed + 1)
    return ImageData(*train, *test)


def _counts(number: int, seed: int) -> tuple[Tensor, Tensor]:
    labels = np.arange(number) % len(CLASSES)
    counts = np.array([_binned(gesture_events(int(label), seed * 1_000_003 + i)) for i, label in enumerate(labels)])
    return torch.from_numpy(counts), torch.from_numpy(labels.astype(np.int64))


def _binned(events: Events) -> npt.NDArray[np.float32]:
    return bin_events(events, NUM_STEPS, STEP_US, SIZE, SIZE)


def _scene(gesture: str, rng: np.random.Generator) -> Array:
    """Intensity [milliseconds, H, W]: a soft ellipse that moves over a background of few grey levels."""
    texture = 0.2 + 0.05 * np.kron(rng.random((SIZE // 4, SIZE // 4)), np.ones((4, 4)))
    brightness, softness = rng.uniform(0.08, 0.4), rng.uniform(1.0, 2.0)
    return np.stack([texture + brightness * shape for shape in _hand(gesture, softness, rng)])


def _hand(gesture: str, softness: float, rng: np.random.Generator) -> Iterator[Array]:
    """Where the hand is, 0..1 [H, W], at each millisecond."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    aspect, radius = rng.uniform(0.7, 1.4), rng.uniform(2.0, 5.0)
    for cx, cy, scale in zip(*_path(gesture, rng), strict=True):
        distance = np.hypot((x - cx) * aspect, (y - cy) / aspect) - radius * scale
        yield 1.0 / (1.0 + np.exp(np.clip(distance / softness, -30.0, 30.0)))


def _path(gesture: str, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Centre (x, y) in pixels and scale of the hand at each millisecond."""
    time = np.linspace(0.0, 1.0, MILLISECONDS)
    cx, cy = SIZE / 2 + rng.uniform(-4.0, 4.0, 2)
    reach, speed, start = rng.uniform(5.0, 11.0), rng.uniform(0.6, 1.4), rng.uniform(0.0, 0.3)
    still, sweep = np.zeros_like(time), reach * (2.0 * np.clip((time - start) * speed, 0.0, 1.0) - 1.0)
    angle = 2.0 * np.pi * (rng.random() + speed * time)
    grow = np.clip((time - start) * speed, 0.0, 1.0)
    moves = {
        "right": (sweep, still, still),
        "left": (-sweep, still, still),
        "up": (still, -sweep, still),
        "down": (still, sweep, still),
        "clockwise": (0.6 * reach * np.cos(angle), 0.6 * reach * np.sin(angle), still),
        "counterclockwise": (0.6 * reach * np.cos(angle), -0.6 * reach * np.sin(angle), still),
        "approach": (still, still, 1.4 * grow - 0.6),
        "withdraw": (still, still, 0.8 - 1.4 * grow),
    }
    dx, dy, growth = moves[gesture]
    return cx + dx, cy + dy, 1.0 + growth
