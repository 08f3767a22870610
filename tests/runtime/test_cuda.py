"""The runtime of CUDA artifacts on a driver whose GPU is the host: memory, launches, graphs, DLPack, and its errors."""

from __future__ import annotations

import ctypes
import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lowering.cuda.emulator import needs_compiler
from lowering.lowered_examples import LIF, Builder, int_conv
from runtime.cuda_on_host import NoCompiler, driver_for
from torch.fx import GraphModule

from spikenm_compile.artifact.cuda_code import read_cuda_code
from spikenm_compile.artifact.directory import Artifact, read_artifact, write_artifact
from spikenm_compile.errors import ArtifactError, InputError, TargetError, ToolError
from spikenm_compile.graph import run_steps
from spikenm_compile.ops import SPIKES
from spikenm_compile.package import write_package
from spikenm_compile.pattern import Pattern
from spikenm_compile.runtime import load
from spikenm_compile.runtime.cuda import MAX_SESSIONS, CudaModel
from spikenm_compile.runtime.cuda_driver import Device, Driver, Kernels
from spikenm_compile.runtime.cuda_session import RUNS_UNDER_WAY
from spikenm_compile.runtime.dlpack import CPU, CUDA, lend
from spikenm_compile.targets import cuda

NUM_STEPS = 3


def network() -> GraphModule:
    """Neurons on the input, and a layer with neurons; every step of the last is the output."""
    b = Builder((6, 4, 4), per_step=True)
    conv = int_conv((9, 6, 3, 3), 1, levels=SPIKES, padding=(1, 1))
    conv.kernel = "dense-tensor-core"
    return b.build(b.neuron(b.neuron(b.input, LIF), LIF, fused_with=conv), num_steps=NUM_STEPS)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GraphModule]:
    path, lowered = tmp_path_factory.mktemp("cuda") / "a", network()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "find_toolkit", NoCompiler)
        samples = torch.rand(NUM_STEPS, 2, 6, 4, 4)
        write_package(lowered, cuda.Cuda(keeps_states=True), path, name="net", pattern=Pattern(2, 4), samples=samples)
    return path, lowered


@pytest.fixture(scope="module")
def library(built: tuple[Path, GraphModule]) -> str:
    return str(driver_for(built[0]))


@pytest.fixture
def model(built: tuple[Path, GraphModule], library: str) -> CudaModel:
    fake(library)
    return CudaModel(read_artifact(built[0]), library=library)


def fake(library: str, *, major: int = 9, minor: int = 0, cuda_version: int = 13000, devices: int = 1) -> None:
    ctypes.CDLL(library).fake_gpu(major, minor, cuda_version, devices)


def inputs(batch: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand(NUM_STEPS, batch, 6, 4, 4, generator=torch.Generator().manual_seed(seed))


class OnGpu:
    """An array in the memory of the host that says it lies on GPU 0, where the driver of the tests has its memory."""

    def __init__(self, array: np.ndarray[Any, Any], device: tuple[int, int] = (CUDA, 0)) -> None:
        self.array, self.device, self.streams = array, device, list[object]()

    def __dlpack__(self, *, stream: object = None) -> object:
        self.streams.append(stream)
        return lend(self.array.ctypes.data, self.array.shape, self.device, self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


pytestmark = needs_compiler


@pytest.mark.parametrize("batch", [1, 3])
def test_every_batch_equals_the_reference(built: tuple[Path, GraphModule], model: CudaModel, batch: int) -> None:
    for seed in range(2):  # the second run begins from the first values of the states again
        x = inputs(batch, seed)
        expected, trace = run_steps(built[1], x), model.trace(x.numpy())
        np.testing.assert_array_equal(trace.output, expected.output)
        for layer, spikes in expected.spikes.items():
            np.testing.assert_array_equal(trace.spikes[layer], spikes)
        for name, state in expected.states.items():
            np.testing.assert_array_equal(trace.states[name].transpose(0, 3, 1, 2), state)


def test_an_array_on_the_gpu_is_read_and_given_without_a_copy(
    built: tuple[Path, GraphModule], model: CudaModel
) -> None:
    x = inputs(2)
    given = OnGpu(x.numpy())
    out = model.run_device(given)
    assert given.streams == [model._stream.handle]
    assert out.shape == (NUM_STEPS, 2, 9, 4, 4)
    expected = run_steps(built[1], x).output
    np.testing.assert_array_equal(out.numpy(), expected)
    again = model.run_device(OnGpu(inputs(2, 1).numpy()), out=out)
    assert again is out
    np.testing.assert_array_equal(out.numpy(), run_steps(built[1], inputs(2, 1)).output)
    assert out.__dlpack_device__() == (CUDA, 0)
    assert "dltensor" in repr(out.__dlpack__(stream=None))
    with pytest.raises(InputError, match="lies on GPU 0 and is asked for on another device"):
        out.__dlpack__(dl_device=(CPU, 0))


def test_an_input_lives_while_it_may_be_read(model: CudaModel) -> None:
    for _ in range(RUNS_UNDER_WAY + 2):
        model.run_device(OnGpu(inputs(2).numpy()))
    assert len(model._sessions[2]._under_way) == RUNS_UNDER_WAY


def test_times_are_those_of_the_driver(model: CudaModel) -> None:
    assert model.measure(inputs(2).numpy(), 3) == [1000.0] * 3
    rows = model.measure_launches(2, 4)
    assert {us for _, _, us in rows} == {250.0}
    assert "layer.2" not in {layer for layer, _, _ in rows} or any("tensor cores" in how for _, how, _ in rows)
    with pytest.raises(InputError, match="no batch of 5 samples was run"):
        model.measure_launches(5, 1)


def test_memory_goes_back_with_the_model(built: tuple[Path, GraphModule], library: str) -> None:
    fake(library)
    gc.collect()
    counts = ctypes.CDLL(library).fake_memory
    before = counts()
    model = CudaModel(read_artifact(built[0]), library=library)
    for batch in range(1, MAX_SESSIONS + 3):
        model.run(inputs(batch).numpy())
    assert counts() == before + 1 + MAX_SESSIONS  # weights, and one arena for each batch size that is kept
    del model
    gc.collect()
    assert counts() == before


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((NUM_STEPS, 2, 6, 4, 4), np.float32), "does not lie on GPU 0, where 'net' runs; move it there"),
        ([1.0], "is a list, which has no DLPack interface"),
        (OnGpu(np.zeros((NUM_STEPS, 2, 6, 4), np.float32)), r"shape \[3, 2, 6, 4\]; \[3, B, 6, 4, 4\] is expected"),
        (OnGpu(np.zeros((2, 2, 6, 4, 4), np.float32)), r"shape \[2, 2, 6, 4, 4\]; \[3, B, 6, 4, 4\] is expected"),
    ],
)
def test_wrong_arrays(model: CudaModel, x: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.run_device(x)


def test_other_numbers_of_steps_are_refused(model: CudaModel) -> None:
    with pytest.raises(InputError, match="is run for 2 steps; its kernels take 3 steps at once; give it 3 steps, or"):
        model.run(inputs(1).numpy()[:2])
    with pytest.raises(InputError, match="single steps build for native or onnx"):
        model.initial_state()


def test_no_driver(built: tuple[Path, GraphModule]) -> None:
    with pytest.raises(TargetError, match=r"has no NVIDIA driver \(.*\); a CUDA artifact runs on an NVIDIA GPU of"):
        CudaModel(read_artifact(built[0]), library="libno-such-driver.so.1")


@pytest.mark.parametrize(
    ("gpu", "message"),
    [
        ({"devices": -1}, r"driver does not start \(error 100, no CUDA-capable device is detected\)"),
        ({"devices": 0}, "GPU 0 was asked for and the driver sees 0"),
        ({"major": 7, "minor": 5}, "and GPU 0 is a Emulated GPU of compute capability 7.5"),
        (
            {"cuda_version": 12040},
            r"supports CUDA 12\.4, and 'net' was compiled with CUDA 13\.0; install a newer driver",
        ),
    ],
)
def test_wrong_machines(built: tuple[Path, GraphModule], library: str, gpu: dict[str, int], message: str) -> None:
    fake(library, **gpu)
    with pytest.raises(TargetError, match=message):
        CudaModel(read_artifact(built[0]), library=library)


@pytest.mark.parametrize(("major", "minor"), [(8, 0), (8, 7), (9, 0), (10, 3), (11, 0), (12, 1), (13, 0)])
def test_later_gpus_are_taken(built: tuple[Path, GraphModule], library: str, major: int, minor: int) -> None:
    fake(library, major=major, minor=minor)
    CudaModel(read_artifact(built[0]), library=library)


def test_errors_of_the_driver_say_which_call(library: str) -> None:
    fake(library)
    device = Device(Driver(library))
    with device.current():
        kernels = Kernels(device, b"")
        with pytest.raises(ToolError, match="cuModuleGetFunction failed: error 500, named symbol not found"):
            kernels.prepare("no_such_kernel", 0)


def changed(built: Path, out: Path, **fields: object) -> Artifact:
    """The artifact with other fields in its code section."""
    artifact = read_artifact(built)

    def fill(directory: Path) -> Any:
        for name in artifact.manifest.files:
            (directory / name).write_bytes((built / name).read_bytes())
        code = json.loads(json.dumps(dict(artifact.manifest.code)))
        return replace(artifact.manifest, code={**code, **fields})

    return write_artifact(out, fill)


def test_an_artifact_that_was_not_compiled(built: tuple[Path, GraphModule], tmp_path: Path, library: str) -> None:
    fake(library)
    artifact = changed(built[0], tmp_path / "a", binary=None, missing="no CUDA compiler: install one", architectures=[])
    with pytest.raises(ToolError, match=r"holds kernels.cu and no compiled kernels, since it was built with no CUDA"):
        CudaModel(artifact, library=library)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arena_bytes": 256}, "code.launches.* a multiple of 256 below 256"),
        ({"weights_bytes": 256}, "code.launches.* a multiple of 256 below 256"),
        ({"binary": "nothing.fatbin"}, "code.binary.* a file of the artifact"),
        ({"toolkit": [13]}, "code.toolkit.* two numbers"),
        ({"states": [{"name": "v", "shape": [1], "init": 0.0, "offset": 4}]}, "code.states.* a multiple of 256"),
        ({"spikes": [dict.fromkeys(("offset", "halo"), 0) | {"layer": "l", "height": 99, "width": 99, "channels": 9}]},
         "code.spikes.* inside an arena"),
    ],
)  # fmt: skip
def test_altered_code_sections(
    built: tuple[Path, GraphModule], tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        read_cuda_code(changed(built[0], tmp_path / "a", **fields))


def test_weights_of_another_size(built: tuple[Path, GraphModule], tmp_path: Path, library: str) -> None:
    fake(library)
    size = dict(read_artifact(built[0]).manifest.code)["weights_bytes"]
    assert isinstance(size, int)
    artifact = changed(built[0], tmp_path / "a", weights_bytes=size + 256)
    with pytest.raises(ArtifactError, match=f"holds {size} bytes of tensor 'weights'; its code needs {size + 256}"):
        CudaModel(artifact, library=library)


def test_load_finds_the_runtime(built: tuple[Path, GraphModule]) -> None:
    try:
        Driver()
    except TargetError:
        with pytest.raises(TargetError, match="NVIDIA driver"):
            load(built[0])
