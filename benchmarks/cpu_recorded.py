"""Layers on the spikes of trained networks: a VGG-11 on digits of 32 × 32 pixels, dense and under masks.

A short training is enough, since spikes are wanted, not accuracy: weights, densities and the clusters that spikes come
in are those of a trained network. Networks are kept, so that a second run trains none.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from benchmarks.cpu_layers import BUILT
from benchmarks.cpu_native import TARGET, TimedLayer
from benchmarks.cpu_peers import BARE, dense_layer, peers_of
from benchmarks.cpu_results import Row
from benchmarks.cpu_timing import Call, Given, Levels, Plan, take_turns
from benchmarks.cpu_workloads import NUM_STEPS
from spikenm_compile.compiler import fold, lower, transform
from spikenm_compile.graph import SHAPE
from spikenm_compile.layer_calls import layer_nodes
from spikenm_compile.observation import MOST_SAMPLES, observe_inputs
from spikenm_compile.ops import IntConv2d, IntConvNeuron
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.training.digits import ImageData, load_digits
from spikenm_compile.training.networks.neurons import NeuronOptions
from spikenm_compile.training.networks.task import Task
from spikenm_compile.training.networks.vgg import vgg11
from spikenm_compile.training.settings import Settings
from spikenm_compile.training.trainer import run_training
from spikenm_compile.tuning.one_layer import conv_of

DENSE = "dense"
KINDS = (DENSE, "2:4", "1:8@stagger")
TRIED = "2:4"
"""Pattern that the lowering tries on layers without one."""
SIZE = 32
SAMPLES = 32
"""Test images whose spikes are recorded."""


@dataclass(frozen=True)
class Training:
    """How long networks are trained, and how wide they are."""

    width: int = 64
    images: int = 256
    batch_size: int = 16
    threads: int = 2

    def file(self, folder: Path, kind: str) -> Path:
        """Where such a network is kept."""
        return folder / f"vgg11-{self.width}-{self.images}-{kind.replace(':', 'of')}.safetensors"


def trained(kind: str, training: Training, folder: Path) -> nn.Module:
    """The network of one of KINDS, from the folder or from a training of a minute; folded."""
    model = vgg11(Task((1, SIZE, SIZE), 10, NUM_STEPS, False), NeuronOptions(), width=training.width)
    path = training.file(folder, kind)
    if not path.exists():
        torch.manual_seed(0)
        _train(model, kind, training)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), path)
    model.load_state_dict(load_file(path))
    return model.eval()


def _train(model: nn.Module, kind: str, training: Training) -> None:
    data, steps = large_digits(), training.images // training.batch_size
    few = ImageData(data.train_images[: training.images], data.train_labels[: training.images], *_test(data))
    if kind != DENSE:
        transform(model, kind, example_inputs=few.test_images[:1], total_steps=steps, report=None)
    threads = torch.get_num_threads()
    torch.set_num_threads(training.threads)
    run_training(model, few, Settings(epochs=1, lr=2e-3, batch_size=training.batch_size, evaluate_every=0))
    torch.set_num_threads(threads)
    if kind != DENSE:
        fold(model)


def _test(data: ImageData) -> tuple[Tensor, Tensor]:
    return data.test_images[:SAMPLES], data.test_labels[:SAMPLES]


def large_digits() -> ImageData:
    """scikit-learn's digits, each on 32 × 32 pixels."""
    data = load_digits()

    def enlarge(images: Tensor) -> Tensor:
        return F.interpolate(images, (SIZE, SIZE), mode="bilinear")

    return ImageData(enlarge(data.train_images), data.train_labels, enlarge(data.test_images), data.test_labels)


@dataclass(frozen=True, eq=False)
class Recorded:
    """A layer and what it read, a list of samples."""

    name: str
    timed: TimedLayer
    samples: tuple[Levels, ...]


def record(model: nn.Module, kind: str) -> list[Recorded]:
    """The layers of a network with what they read of `SAMPLES` test images."""
    images, _ = _test(large_digits())
    lowered = lower(model, images, pattern=TRIED if kind == DENSE else kind, target=TARGET)
    read: dict[IntConv2d, list[Levels]] = {}
    for few in torch.split(images, MOST_SAMPLES):
        for conv, levels in _steps_of(lowered, few).items():
            read.setdefault(conv, []).extend(torch.stack(levels, 1).to(torch.uint8).numpy())
    return [_recorded(lowered, node, conv, read[conv]) for node, conv in layer_nodes(lowered)]


def _steps_of(lowered: GraphModule, images: Tensor) -> dict[IntConv2d, list[Tensor]]:
    """What each layer reads at each step, [B, C, H, W]."""
    steps: dict[IntConv2d, list[Tensor]] = {}
    observe_inputs(lowered, images, lambda conv, levels: steps.setdefault(conv, []).append(levels))
    return steps


def _recorded(lowered: GraphModule, node: Node, conv: IntConv2d, samples: Sequence[Levels]) -> Recorded:
    layer, source = lowered.get_submodule(str(node.target)), node.args[0]
    assert isinstance(layer, IntConv2d | IntConvNeuron)
    assert isinstance(source, Node)
    channels, height, width = source.meta[SHAPE]
    name = f"{conv.layer} ({channels}-{conv.weight.shape[0]}@{height})"
    return Recorded(name, TimedLayer(layer, (channels, height, width), len(samples[0])), tuple(samples))


def measure_recorded(kind: str, training: Training, folder: Path, cpu: Cpu, rounds: int) -> Iterator[Row]:
    """Rows of every layer of one network."""
    for recorded in record(trained(kind, training, folder), kind):
        yield from _measure(kind, recorded, cpu, rounds)


def _measure(kind: str, recorded: Recorded, cpu: Cpu, rounds: int) -> Iterator[Row]:
    timed, conv = recorded.timed, conv_of(recorded.timed.layer)
    density, built = conv.density, timed.usual_family(timed.layer) or BUILT
    assert density is not None
    layers = {family: timed.with_family(family) for family in timed.families()} | {built: timed.layer}
    ours = {family: timed.compile(layer, cpu, recorded.samples[0]) for family, layer in layers.items()}
    peers = peers_of(dense_layer(conv, timed.shape, timed.num_steps), has_lif=False)
    runners: dict[str, Sequence[Call]] = {name: [call] for name, call in {**ours, **peers}.items()}
    times = take_turns(runners, draw_from(recorded.samples), Plan(rounds, 4, 8))
    place = f"{kind} {recorded.name}"
    for family in ours:
        yield Row(place, round(density, 4), kind, family, family == built, times[family])
    for peer in BARE:
        yield Row(place, round(density, 4), peer, "", False, times[peer])


def draw_from(samples: Sequence[Levels]) -> Callable[[], Sequence[Given]]:
    """What gives one sample after the other."""
    turns = itertools.cycle(samples)
    return lambda: [Given(next(turns))]
