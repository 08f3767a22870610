"""Networks of the frontier: event-digit networks of several widths, patterns and types of weights, and their training.

A network is a run of the learning benchmark at the settings that were chosen there. Its weights, folded, are kept in a
file of their own, its accuracy in PyTorch in a line of trained.jsonl; what is there is not trained again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.learning_networks import data_of, network
from benchmarks.learning_plans import SPIKENM, variant
from benchmarks.learning_runs import DENSE, Measured, Run
from benchmarks.learning_store import Store
from benchmarks.learning_training import evaluated, keep_memory, trained
from benchmarks.learning_tries import CHOSEN, QUICKEST
from spikenm_compile.weight_types import WEIGHT_TYPES

FOLDER = Path(__file__).parent / "results" / "frontier"
"""Results and tables."""
WEIGHTS = Path("out") / "frontier"
"""Weights; not kept with the sources."""
TRAINED = "trained"
PATTERNS = (DENSE, "2:4", "1:8", "2:4@stagger", "1:4@stagger", "1:8@stagger")
WIDTHS = (32, 64, 16, 128)
"""Of networks in whole numbers, the most useful first."""
PEER_WIDTHS = (8, 12, 16, 24, 32, 48, 64, 96)
"""Of dense networks in floats, which ONNX Runtime runs."""


def whole(width: int, pattern: str, weight_type: str) -> Run:
    """A network trained in whole numbers, without its split."""
    if pattern == DENSE:
        return variant("event", DENSE, "", str(width), **QUICKEST, weight_type=weight_type)
    if pattern.endswith("@stagger"):
        return variant("event", "staggered", pattern, str(width), **QUICKEST, weight_type=weight_type)
    return variant("event", "spikenm", pattern, str(width), **{**SPIKENM, **CHOSEN}, weight_type=weight_type)


def peer(width: int) -> Run:
    """A dense network in floats, without its split."""
    return variant("event", DENSE, "", str(width), **QUICKEST)


def planned(splits: Iterable[int]) -> Iterator[Run]:
    """All networks, those of a split before those of the next."""
    for split in splits:
        for run in _variants():
            yield replace(run, split=split)


def _variants() -> Iterator[Run]:
    yield from map(peer, PEER_WIDTHS)
    for width in WIDTHS:
        for weight_type in reversed(WEIGHT_TYPES):
            for pattern in PATTERNS:
                yield whole(width, pattern, weight_type)


def weight_type_of(run: Run) -> str | None:
    """What the weights were trained as, None: floats."""
    found = dict(run.options).get("weight_type")
    return None if found is None else str(found)


def name_of(run: Run) -> str:
    """A network in words that suit a file."""
    words = (f"w{run.net}", run.pattern or DENSE, weight_type_of(run) or "float32", f"s{run.split}")
    return re.sub(r"[:@]", "-", "-".join(words))


def train(runs: Iterable[Run], store: Store, weights: Path) -> None:
    """Train what is not there yet; a kill loses the network that it is at."""
    torch.set_num_threads(1)
    keep_memory()
    weights.mkdir(parents=True, exist_ok=True)
    for run in runs:
        path = weights / f"{name_of(run)}.safetensors"
        if run in store and path.is_file():
            continue
        started = time.perf_counter()
        model, flips, density = trained(run)
        accuracy, loss, rate = evaluated(model, data_of(run))
        seconds = time.perf_counter() - started
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
        store.add(TRAINED, run, Measured(100.0 * accuracy, loss, rate, density, flips, seconds))
        print(f"{name_of(run)}: {100.0 * accuracy:.2f} % {loss:.3f}, rate {rate:.3f}  {seconds:.0f} s", flush=True)


def load(run: Run, weights: Path) -> nn.Module:
    """The trained network in evaluation mode."""
    model = network(run)
    model.load_state_dict(load_file(weights / f"{name_of(run)}.safetensors"))
    return model.eval()


def test_part(run: Run) -> tuple[Tensor, Tensor]:
    """Events [N, T, 2, 16, 16] and labels [N] that the network was not trained on."""
    data = data_of(run)
    return data.test_images, data.test_labels
