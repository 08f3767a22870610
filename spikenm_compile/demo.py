"""The demo: train a spiking CNN on digits dense and at N:M, build it, prove it, compare it. One table at the end."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikenm_compile.artifact.directory import Artifact
from spikenm_compile.artifact.manifest import MANIFEST_NAME
from spikenm_compile.compiler import compile_model, fold, lift_model, transform
from spikenm_compile.console import progress
from spikenm_compile.errors import InputError, PassError, ToolError
from spikenm_compile.package import read_lowered
from spikenm_compile.pattern import Pattern
from spikenm_compile.report.layers import format_layers
from spikenm_compile.report.table import format_table
from spikenm_compile.runtime import load
from spikenm_compile.targets.linker import find_compiler
from spikenm_compile.timing import Latency, measure
from spikenm_compile.training.digits import ImageData, digits_net, load_digits
from spikenm_compile.training.loop import accuracy, reset_neurons, total_steps, train
from spikenm_compile.training.progress_bar import progress_bar
from spikenm_compile.verification import compare_with_float, format_checks, format_flips, verify

TARGETS = ("native", "onnx")
ROUNDS = 100
NUM_EXAMPLES = 256


@dataclass(frozen=True)
class Trained:
    """A network and its test accuracy."""

    model: nn.Module
    accuracy: float


def train_pair(data: ImageData, pattern: str, *, epochs: int, seed: int) -> tuple[Trained, Trained]:
    """The digits network trained dense, and trained at `pattern` and folded, from the same start."""
    return _train(data, None, epochs, seed), _train(data, pattern, epochs, seed)


def _train(data: ImageData, pattern: str | None, epochs: int, seed: int) -> Trained:
    torch.manual_seed(seed)
    model: nn.Module = digits_net()
    steps = total_steps(len(data.train_labels), epochs)
    if pattern is not None:
        transform(model, pattern, total_steps=steps)
    with progress_bar(f"train {pattern or 'dense'}", steps) as show:
        train(model, data, epochs=epochs, seed=seed, progress=show)
    if pattern is not None:
        fold(model)
    model.eval()
    return Trained(model, accuracy(model, data.test_images, data.test_labels))


def run_demo(out: Path, *, epochs: int, seed: int, pattern: str) -> str:
    """Everything; prints as it goes and returns the closing table.

    Raises:
        PatternError, ToolError, ArtifactError, InputError: something is wrong with the arguments or missing here.
        PassError: an artifact is not equal to its lowered graph.
    """
    _check_before_training(out, pattern, epochs)
    torch.set_num_threads(1)  # one image at a time: threads cost more than they give, for every contender
    data = load_digits(seed)
    dense, sparse = train_pair(data, pattern, epochs=epochs, seed=seed)
    artifacts = [_build(sparse.model, data, out / target, target, pattern) for target in TARGETS]
    images = torch.cat([data.train_images, data.test_images])
    for artifact in artifacts:
        _prove(artifact, images)
    flips = compare_with_float(
        read_lowered(artifacts[0]), lift_model(sparse.model, images[:1]), images, artifacts[0].manifest.num_steps
    )
    print(f"\nspikes that quantisation changed, over {len(images)} digits:\n{format_flips(flips)}\n")
    print(f"{format_layers(artifacts[0].manifest.layers)}\n")
    latencies = compare_latency(dense.model, artifacts, data.test_images)
    return _closing_table(dense, sparse, artifacts, data, latencies, pattern)


def _check_before_training(out: Path, pattern: str, epochs: int) -> None:
    """Find what would stop the demo at its end while it costs nothing yet."""
    Pattern.parse(pattern)
    if epochs < 1:
        raise InputError(f"{epochs} epochs train nothing; give --epochs 1 or more")
    if find_compiler() is None:
        raise ToolError("no C compiler is found, and the demo builds native code; install gcc or clang, or set CC")
    _check_exporter()
    if out.exists() and not out.is_dir():
        raise InputError(f"'{out}' is a file, and the demo writes into a directory; give another --out")
    for place in (out / target for target in TARGETS):
        if place.exists() and not (place / MANIFEST_NAME).is_file():
            raise InputError(f"'{place}' is not an artifact, and only artifacts are replaced; give another --out")


def _check_exporter() -> None:
    if find_spec("onnxscript") is None:
        raise ToolError("onnxscript is not installed; the comparison needs it: pip install 'spikenm-compile[demo]'")


def _build(model: nn.Module, data: ImageData, out: Path, target: str, pattern: str) -> Artifact:
    with progress(f"build {target}") as advance:
        emit: Callable[[str, str], None] = lambda name, _text: advance(Path(name).stem)  # noqa: E731
        examples = data.train_images[:NUM_EXAMPLES]
        return compile_model(model, examples, out, target=target, pattern=pattern, name="digits-demo", emit=emit)


def _prove(artifact: Artifact, images: Tensor) -> None:
    checks = verify(artifact.path, {f"{len(images)} digits": images})
    print(f"\n{artifact.manifest.target} artifact\n{format_checks(checks)}")
    if not all(check.passed for check in checks):
        raise PassError(
            f"the {artifact.manifest.target} artifact differs from its lowered graph; please report the table above"
        )


def compare_latency(dense: nn.Module, artifacts: list[Artifact], images: Tensor) -> dict[str, Latency]:
    """Batch 1, another image each round, one thread; all contenders in one run."""
    singles = [images[i : i + 1].contiguous() for i in range(len(images))]
    arrays = [image.numpy() for image in singles]
    calls: dict[str, Callable[[int], object]] = {}
    for artifact in artifacts:
        model = load(artifact.path)
        calls[artifact.manifest.target] = lambda i, model=model: model.run(arrays[i % len(arrays)])  # type: ignore[misc]
    session, name = onnx_peer(dense, singles[0])
    calls["ONNX Runtime fp32"] = lambda i: session.run(None, {name: arrays[i % len(arrays)]})

    def eager(i: int) -> Tensor:
        reset_neurons(dense)
        logits: Tensor = dense(singles[i % len(singles)])
        return logits

    calls["torch eager"] = eager
    with torch.inference_mode():
        return measure(calls, ROUNDS)


def onnx_peer(model: nn.Module, x: Tensor) -> tuple[Any, str]:
    """The model in float32 as PyTorch's own exporter gives it, in ONNX Runtime: (session, name of the input).

    Raises:
        ToolError: the exporter's package is missing.
    """
    _check_exporter()
    import onnxruntime

    reset_neurons(model)
    with (
        TemporaryDirectory() as scratch,
        warnings.catch_warnings(),
        redirect_stdout(StringIO()),
        redirect_stderr(StringIO()),
    ):
        warnings.simplefilter("ignore")  # the exporter's remarks on its own internals
        path = str(Path(scratch) / "peer.onnx")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it regrets the absence of torchvision
        torch.onnx.export(model, (x,), path, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    reset_neurons(model)
    expected = model(x).detach().numpy()
    name = session.get_inputs()[0].name
    assert np.allclose(session.run(None, {name: x.numpy()})[0], expected, atol=1e-4), (
        "the exported peer is another network"
    )
    return session, name


def _closing_table(
    dense: Trained,
    sparse: Trained,
    artifacts: list[Artifact],
    data: ImageData,
    latencies: dict[str, Latency],
    pattern: str,
) -> str:
    labels = data.test_labels.numpy()
    float_bytes = sum(p.numel() * 4 for p in dense.model.parameters())
    kept = sum(layer.bytes_packed for layer in artifacts[0].manifest.layers)
    rows: list[tuple[str, str, str, str]] = [
        ("dense, torch eager", f"{dense.accuracy:.2%}", str(float_bytes), str(latencies["torch eager"])),
        ("dense, ONNX Runtime fp32", f"{dense.accuracy:.2%}", str(float_bytes), str(latencies["ONNX Runtime fp32"])),
        (f"{pattern}, torch (folded)", f"{sparse.accuracy:.2%}", "", ""),
    ]
    for artifact in artifacts:
        target = artifact.manifest.target
        predicted = load(artifact.path).run(data.test_images.numpy()).argmax(1)
        size = (
            str(kept) if target == "native" else str(sum(f.stat().st_size for f in artifact.path.glob("sequence.onnx")))
        )
        rows.append(
            (
                f"{pattern}, {target} artifact",
                f"{float(np.mean(predicted == labels)):.2%}",
                size,
                str(latencies[target]),
            )
        )
    table = format_table(
        ("digits, T=4", "test accuracy", "weight bytes", "latency per image, batch 1, median (10-90 %)"), rows
    )
    places = "\n".join(f"{a.manifest.target} artifact: {a.path}" for a in artifacts)
    return f"{table}\n\n{places}"
