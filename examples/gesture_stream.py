"""A network that tells the motions of a hand in front of an event camera, trained at 2:4; it reads counts of events.

Build it, prove the artifact, look at it:

    python -m spikenm_compile.build examples/gesture_stream.py:make --out out/gestures
    python -m spikenm_compile verify out/gestures examples/gesture_stream.py:make
    python -m spikenm_compile inspect out/gestures

Run it on a live stream of events, from C: examples/gesture_stream.c, which reads what this file prints:

    python examples/gesture_stream.py left counterclockwise

Train it anew, with another seed or longer (spikenm_compile/training/carried.py is the recipe), and build with that:

    python -m spikenm_compile.build examples/gesture_stream.py:make --weights gestures.safetensors --out out/gestures
"""

from __future__ import annotations

import sys

from torch import Tensor, nn

from spikenm_compile.training.gestures import CLASSES, MILLISECONDS, carried_gesture_net, gesture_events, load_gestures


def make() -> tuple[nn.Module, Tensor]:
    """The trained network, and one gesture of each class [8, T, 2, 32, 32]."""
    return carried_gesture_net(), load_gestures(0, len(CLASSES)).test_images


def print_events(gestures: list[str], seed: int = 0) -> None:
    """Address-events `t x y polarity` of one gesture after the other, with a pause between them; t in microseconds."""
    for number, gesture in enumerate(gestures):
        events = gesture_events(CLASSES.index(gesture), 1_000_000_000 + seed + number)
        for event in events:
            print(int(event["t"]) + number * 3 * MILLISECONDS * 1000, event["x"], event["y"], event["polarity"])


if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in CLASSES]
    if unknown or len(sys.argv) == 1:
        sys.exit(
            f"gestures {unknown or 'are not given'}; supported are {', '.join(CLASSES)}; name one or more of these"
        )
    print_events(sys.argv[1:])
