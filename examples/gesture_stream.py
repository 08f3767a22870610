"""A network that tells the motions of a hand in front of an event camera, trained at 2:4; it reads counts of events.

Build it, prove the artifact, look at it:

    python -m spikenm_compile.build examples/gesture_stream.py:make --out out/gestures
    python -m spikenm_compile verify out/gestures examples/gesture_stream.py:make
    python -m spikenm_compile inspect out/gestures

Train it anew, with another seed or longer (spikenm_compile/training/carried.py is the recipe), and build with that:

    python -m spikenm_compile.build examples/gesture_stream.py:make --weights gestures.safetensors --out out/gestures
"""

from __future__ import annotations

from torch import Tensor, nn

from spikenm_compile.training.gestures import CLASSES, carried_gesture_net, load_gestures


def make() -> tuple[nn.Module, Tensor]:
    """The trained network, and one gesture of each class [8, T, 2, 32, 32]."""
    return carried_gesture_net(), load_gestures(0, len(CLASSES)).test_images
