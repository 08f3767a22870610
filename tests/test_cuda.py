"""Target cuda from the model to a verified artifact: its kernels run on the host, or on a GPU where there is one."""

from __future__ import annotations

import operator
from pathlib import Path

import numpy as np
import pytest
import torch
from frontend.zoo import SewBlock
from lowering.cuda.emulator import needs_compiler
from runtime.cuda_on_host import build_without_nvcc, load_on_host
from torch import Tensor, nn
from zoo import settle

from spikenm_compile.artifact.directory import read_artifact
from spikenm_compile.artifact.tensors import read_tensors
from spikenm_compile.compiler import compile_model
from spikenm_compile.errors import PassError, SpikenmError
from spikenm_compile.network import carried_network
from spikenm_compile.package import VECTORS_NAME, read_lowered
from spikenm_compile.runtime import Model
from spikenm_compile.runtime.cuda_driver import Device, Driver
from spikenm_compile.verification import _check_sequence, _check_vectors, fresh_inputs, verify


def has_gpu() -> bool:
    try:
        return Device(Driver()).capability >= (8, 0)
    except SpikenmError:
        return False


def assert_equal(path: Path, model: Model) -> None:
    """Output, spikes and last states on the test vectors and on fresh inputs, bit for bit."""
    artifact = read_artifact(path)
    lowered, per_step = read_lowered(artifact), artifact.manifest.input.per_step
    fresh = fresh_inputs(lowered, artifact.manifest.num_steps, 0)
    checks = [
        _check_vectors(model, read_tensors(path / VECTORS_NAME)),
        _check_sequence("fresh", model, lowered, fresh[:, :3] if per_step else fresh[:3]),
    ]
    for check in checks:
        assert check.passed, check
        assert check.compared > 0


@needs_compiler
def test_the_carried_network_on_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_without_nvcc(monkeypatch)
    network = carried_network()
    compile_model(network.model, network.example_inputs, tmp_path / "a", target="cuda")
    assert_equal(tmp_path / "a", load_on_host(tmp_path / "a"))


@needs_compiler
@pytest.mark.parametrize("join", ["ADD", pytest.param("AND", marks=pytest.mark.long), "IAND"])
def test_a_sew_block_on_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, join: str) -> None:
    build_without_nvcc(monkeypatch)
    x = torch.rand(3, 4, 2, 8, 8) * 3
    compile_model(settle(SewBlock(join), x), x, tmp_path / "a", target="cuda")
    assert_equal(tmp_path / "a", load_on_host(tmp_path / "a"))


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="no NVIDIA GPU of compute capability 8.0 or later")
@pytest.mark.parametrize("join", ["ADD", "AND", "IAND"])
def test_a_sew_block_on_a_gpu(tmp_path: Path, join: str) -> None:
    x = torch.rand(3, 4, 2, 8, 8) * 3
    compile_model(settle(SewBlock(join), x), x, tmp_path / "a", target="cuda")
    assert all(check.passed for check in verify(tmp_path / "a"))


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="no NVIDIA GPU of compute capability 8.0 or later")
def test_the_carried_network_on_a_gpu(tmp_path: Path) -> None:
    network = carried_network()
    compile_model(network.model, network.example_inputs, tmp_path / "a", target="cuda")
    assert all(check.passed for check in verify(tmp_path / "a"))


class Recurrent(nn.Module):
    """Previous spikes feed the same layer."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch

        self.lif = snntorch.RLeaky(beta=0.9, linear_features=8)
        self.fc = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        spikes, potential = self.lif.init_rleaky()
        total = torch.zeros(x.shape[1], 8)
        for t in range(x.shape[0]):
            spikes, potential = self.lif(self.fc(x[t]), spikes, potential)
            total = total + spikes
        return total


def test_spikes_that_go_round_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("snntorch")
    with pytest.raises(
        PassError, match=r"go round to an earlier one .*; build for native or onnx, which go step by step$"
    ):
        compile_model(Recurrent(), torch.rand(3, 2, 4), tmp_path / "a", target="cuda")


def test_without_a_compiler_the_source_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lowered: torch.fx.GraphModule
) -> None:
    from spikenm_compile.targets import cuda

    monkeypatch.setattr(cuda, "find_toolkit", lambda: None)
    code = cuda.Cuda().build(lowered, tmp_path, name="net", num_steps=3)
    assert code["binary"] is None
    assert "neither the path nor this Python's packages hold nvcc; install pip install" in code["missing"]
    text = (tmp_path / "kernels.cu").read_text()
    assert text.startswith("// net, T=3: ")
    for launch in code["launches"]:
        assert text.count(f"void {launch['kernel']}(") <= 2
        assert f" {launch['kernel']}(" in text


def test_equal_layers_share_a_kernel() -> None:
    from lowering.lowered_examples import LIF, Builder, int_conv

    from spikenm_compile.lowering.cuda.generated import Gpu
    from spikenm_compile.lowering.cuda.plan import plan
    from spikenm_compile.ops import SPIKES

    b = Builder((8, 4, 4), per_step=True)
    spikes = b.neuron(b.input, LIF)
    for seed in range(3):
        conv = int_conv((8, 8, 3, 3), seed, levels=SPIKES, padding=(1, 1))
        conv.kernel = "dense-tensor-core"
        spikes = b.neuron(spikes, LIF, fused_with=conv)
    program = plan(b.build(spikes, num_steps=2), 2, Gpu(), 1)
    convs = [launch for launch in program.launches if launch.layer.startswith("layer.") and launch.kernel.pack]
    assert len(convs) == 3
    assert len({launch.kernel.name for launch in convs}) <= 2  # the last has no halo behind it
    offsets = [launch.arguments[launch.kernel.parameters.index("weights")].offset for launch in convs]
    assert len(set(offsets)) == 3
    assert np.all(np.array(offsets) % 256 == 0)


@needs_compiler
def test_potentials_that_are_read_after_the_steps_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowering.lowered_examples import LIF, Builder, int_conv

    from spikenm_compile.graph import Region
    from spikenm_compile.ops import SPIKES
    from spikenm_compile.package import write_package
    from spikenm_compile.pattern import Pattern
    from spikenm_compile.targets.cuda import Cuda

    build_without_nvcc(monkeypatch)
    b = Builder((6, 4, 4), per_step=True)
    conv = int_conv((9, 6, 3, 3), 1, levels=SPIKES, padding=(1, 1))
    conv.kernel = "dense-tensor-core"
    b.neuron(b.neuron(b.input, LIF), LIF, fused_with=conv)
    potential = list(b.next.values())[-1]
    doubled = b.function(operator.mul, potential, 2.0, region=Region.AFTER)
    samples = torch.rand(12, 2, 6, 4, 4)  # more steps than registers hold
    write_package(
        b.build(doubled, num_steps=12), Cuda(), tmp_path / "a", name="net", pattern=Pattern(2, 4), samples=samples
    )
    artifact = read_artifact(tmp_path / "a")
    states = artifact.manifest.code["states"]
    assert isinstance(states, list)
    assert [state["name"] for state in states] == ["v2"]
    assert_equal(tmp_path / "a", load_on_host(tmp_path / "a"))
