"""The digits seen by an event camera that is shaken: 2×16×16 pixels, 8 steps, made on the fly from scikit-learn's.

    image(t)    the 8×8 digit at 12×12 pixels, rotated and displaced, at place p(t) of a 16×16 window
    p(t)        three strokes along a triangle, so that every edge crosses the pixels in some direction
    ON / OFF    image(t + 1) - image(t) beyond ±CONTRAST
    noise       FLIPPED of all pixels are the other way round

Unlike the still digits, these separate methods that prune: a single step shows only the edges across the motion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikenm_compile.training.digits import ImageData, SpikingConv, all_digits, split_digits

SIZE = 16
"""Height and width of the window in pixels."""
DIGIT_SIZE = 12
"""Height and width of the digit in it."""
NUM_STEPS = 8
STROKES = 3
REACH = (1.2, 2.0)
"""Length of a stroke in pixels."""
TURN = math.radians(20.0)
"""Largest turn of the triangle."""
OFFSET = 1.5
"""Largest displacement of a digit in pixels, either way."""
ROTATION = 0.2
"""Largest rotation of a digit in radians, either way."""
CONTRAST = 0.12
FLIPPED = 0.01
CHANNELS = (16, 32, 32, 32)
"""Output channels of the convolutions of the usual network."""


def load_event_digits(seed: int = 0) -> ImageData:
    """Events [N, T, 2, 16, 16] of 0 and 1 with labels [N], a fifth of them for test; `seed` decides motion and split.

    Raises:
        ToolError: scikit-learn is not installed.
    """
    images, labels = all_digits()
    return split_digits(digit_events(images, torch.Generator().manual_seed(seed)), labels, seed)


def digit_events(images: Tensor, generator: torch.Generator) -> Tensor:
    """What the camera sees of images [N, 1, 8, 8]: events [N, T, 2, 16, 16], ON first."""
    change = _moving(images, generator).diff(dim=1)
    events = torch.stack((change > CONTRAST, change < -CONTRAST), dim=2)
    flipped = torch.rand(events.shape, generator=generator) < FLIPPED
    return (events ^ flipped).float()


def _moving(images: Tensor, generator: torch.Generator) -> Tensor:
    """The window before, between and after the steps: [N, T + 1, 16, 16]."""
    count = len(images)
    angle = _uniform(count, -ROTATION, ROTATION, generator)
    place = _uniform((count, 1, 2), -OFFSET, OFFSET, generator) + _path(count, generator)
    grow = SIZE / DIGIT_SIZE
    turned = grow * torch.stack((angle.cos(), angle.sin(), -angle.sin(), angle.cos()), -1).view(count, 1, 2, 2)
    moved = -turned @ (2.0 / SIZE * place).unsqueeze(-1)
    affine = torch.cat((turned.expand(-1, NUM_STEPS + 1, -1, -1), moved), -1).flatten(0, 1)
    grid = F.affine_grid(affine, [len(affine), 1, SIZE, SIZE], align_corners=False)
    windows = F.grid_sample(images.repeat_interleave(NUM_STEPS + 1, 0), grid, align_corners=False)
    return windows.view(count, NUM_STEPS + 1, SIZE, SIZE)


def _path(count: int, generator: torch.Generator) -> Tensor:
    """Places (x, y) in pixels along a triangle whose middle is 0: [N, T + 1, 2]."""
    reach = _uniform(count, *REACH, generator)
    turn = _uniform(count, -TURN, TURN, generator)
    corners = turn[:, None] + 2.0 * math.pi / STROKES * torch.arange(STROKES + 1)
    corner = (reach / math.sqrt(3.0))[:, None, None] * torch.stack((corners.cos(), corners.sin()), -1)
    along = torch.linspace(0.0, STROKES, NUM_STEPS + 1)
    stroke = along.long().clamp(max=STROKES - 1)
    share = (along - stroke)[:, None]
    return corner[:, stroke] * (1.0 - share) + corner[:, stroke + 1] * share


def _uniform(shape: int | tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


class EventDigitsNet(nn.Module):
    """Four spiking convolutions and a linear classifier; the output is the mean over the time steps.

    Args:
        channels: output channels of the convolutions.
        num_steps: T.
    """

    def __init__(self, channels: Sequence[int] = CHANNELS, num_steps: int = NUM_STEPS) -> None:
        super().__init__()
        first, second, third, fourth = channels
        self.num_steps = num_steps
        self.block1 = SpikingConv(2, first, num_steps, stride=2)
        self.block2 = SpikingConv(first, second, num_steps, stride=2)
        self.block3 = SpikingConv(second, third, num_steps)
        self.block4 = SpikingConv(third, fourth, num_steps, stride=2)
        self.classifier = nn.Linear(fourth * 2 * 2, 10)

    def forward(self, events: Tensor) -> Tensor:
        """Events [B, T, 2, 16, 16] to class logits [B, 10]; reset the neurons before each call."""
        x = self.block4(self.block3(self.block2(self.block1(events.transpose(0, 1)))))
        logits = self.classifier(x.flatten(0, 1).flatten(1))
        mean: Tensor = logits.unflatten(0, (self.num_steps, -1)).mean(0)
        return mean


def event_digits_net(width: int = 32) -> EventDigitsNet:
    """A fresh network for `load_event_digits`, `width`/2 - `width` - `width` - `width` channels."""
    return EventDigitsNet((width // 2, width, width, width))
