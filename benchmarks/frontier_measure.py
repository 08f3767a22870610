"""Accuracy of every network as it is deployed, and its microseconds for one sample, one thread.

All contenders take turns over the same test samples, so that a busy machine slows all of them; times are CPU time of
the thread, the mean over the samples of a round, the least of the rounds. Ours are timed through `run` of the artifact,
Python and all; ONNX Runtime through bound buffers, its inputs in place before the clock starts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.frontier_nets import load, name_of, weight_type_of
from benchmarks.frontier_peers import Floats, bare_convolutions, peers_of
from benchmarks.learning_networks import channels_of, data_of
from benchmarks.learning_runs import DENSE, Run
from spikenm_compile import compile_model
from spikenm_compile import load as load_artifact

OURS, CONVOLUTIONS = "ours", "convolutions"
"""Sides beside the peers "float32" and "int8"; `convolutions`: those of the int8 peer alone, without neurons."""
NUM_EXAMPLES = 64
"""Training samples that an artifact's quantiser and densities see."""
TIMED = 40
"""Test samples of a round."""


@dataclass(frozen=True)
class Point:
    """One network as it is deployed."""

    name: str
    side: str
    net: str
    """Width."""
    pattern: str
    weight_type: str
    split: int
    accuracy: float
    """In points, of the deployed network."""
    microseconds: float

    def to_json(self) -> str:
        """One line."""
        rounded = {"accuracy": round(self.accuracy, 2), "microseconds": round(self.microseconds, 2)}
        return json.dumps(asdict(self) | rounded, separators=(",", ":"))


@dataclass(frozen=True)
class Contender:
    """A deployed network that can be called."""

    point: Callable[[float], Point]
    """Microseconds -> what is kept of it."""
    take: Callable[[Floats], None]
    """Puts in one sample [1, T, ...]; not timed."""
    run: Callable[[], object]


def measure(runs: Iterable[Run], weights: Path, rounds: int) -> list[Point]:
    """Build and time those of the networks that are trained; networks of a split take turns."""
    torch.set_num_threads(1)
    trained = [run for run in runs if (weights / f"{name_of(run)}.safetensors").is_file()]
    points: list[Point] = []
    for split, of_split in groupby(sorted(trained, key=lambda run: run.split), key=lambda run: run.split):
        contenders = [contender for run in of_split for contender in _contenders(run, weights)]
        samples = data_of(Run("event", split)).test_images[:TIMED].numpy()
        points += [c.point(us) for c, us in zip(contenders, take_turns(contenders, samples, rounds), strict=True)]
    return points


def take_turns(contenders: list[Contender], samples: Floats, rounds: int) -> list[float]:
    """Microseconds of each, by the least of the rounds; one round more warms up."""
    least = [float("inf")] * len(contenders)
    for turn in range(rounds + 1):
        for i, contender in enumerate(contenders):
            nanoseconds = 0
            for sample in samples:
                contender.take(sample[None])
                first = time.thread_time_ns()
                contender.run()
                nanoseconds += time.thread_time_ns() - first
            if turn:
                least[i] = min(least[i], nanoseconds / 1e3 / len(samples))
    return least


def _contenders(run: Run, weights: Path) -> Iterator[Contender]:
    print(f"build {name_of(run)}", flush=True)
    if weight_type_of(run) is None:
        yield from _peers(run, weights)
    else:
        yield _ours(run, weights)


def _ours(run: Run, weights: Path) -> Contender:
    """The native artifact; weights that lie on the grid of a type are found by `auto`."""
    data = data_of(run)
    examples, pattern = data.train_images[:NUM_EXAMPLES], run.pattern or "2:4"
    with TemporaryDirectory() as scratch:
        out = Path(scratch) / "artifact"
        compile_model(load(run, weights), examples, out, pattern=pattern, weight_type="auto", report=None)
        model = load_artifact(out)
    x: Floats = np.ascontiguousarray(data.test_images.transpose(0, 1).numpy())
    right = model.run(x).argmax(1) == data.test_labels.numpy()
    held: list[Floats] = [x[:, :1]]

    def take(sample: Floats) -> None:
        held[0] = np.ascontiguousarray(sample.swapaxes(0, 1))

    return Contender(partial(_point, run, OURS, 100.0 * float(right.mean())), take, lambda: model.run(held[0]))


def _peers(run: Run, weights: Path) -> Iterator[Contender]:
    data, accuracy = data_of(run), 0.0
    for side, peer in peers_of(load(run, weights), data.train_images).items():
        right = 0
        for sample, label in zip(data.test_images.numpy(), data.test_labels.tolist(), strict=True):
            peer.take(sample[None])
            peer.run()
            right += int(peer.result().argmax()) == label
        share = 100.0 * right / len(data.test_labels)
        accuracy = max(accuracy, share)
        yield Contender(partial(_point, run, side, share), peer.take, peer.run)
    bare = bare_convolutions(channels_of(run))
    yield Contender(partial(_point, run, CONVOLUTIONS, accuracy), lambda _sample: None, bare.run)


def _point(run: Run, side: str, accuracy: float, microseconds: float) -> Point:
    weight_type = weight_type_of(run) or ("float32" if side == "float32" else "int8")
    pattern = run.pattern or DENSE
    return Point(name_of(run), side, run.net, pattern, weight_type, run.split, accuracy, microseconds)


def write_points(points: Iterable[Point], path: Path) -> None:
    """A list, one line each; replaces what was there, since times of two runs are not comparable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(point.to_json() for point in points)
    path.write_text(f"[\n{lines}\n]\n")


def read_points(path: Path) -> list[Point]:
    """Inverse of `write_points`; nothing where nothing was measured."""
    return [Point(**values) for values in json.loads(path.read_text())] if path.is_file() else []
