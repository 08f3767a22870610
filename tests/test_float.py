"""What has no integer form: it trains with masks, is built in float32 with a reason, verified, and run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from float_networks import BATCH, EXPENSIVE, NUM_STEPS, OPAQUE, STEP, WHOLE, jelly
from onnx import numpy_helper
from spikingjelly.activation_based import neuron
from torch import nn

from spikenm_compile import compile_model, fold, load, transform, verify
from spikenm_compile.artifact.directory import Artifact, read_artifact
from spikenm_compile.errors import ArtifactError, CaptureError, InputError, PassError
from spikenm_compile.frontend.adapters import reset_states
from spikenm_compile.frontend.capture import capture
from spikenm_compile.learning.attach import masked_layers
from spikenm_compile.pattern import Pattern
from spikenm_compile.report.layers import format_manifest
from spikenm_compile.verification import format_checks

NETWORKS = {**WHOLE, **STEP}
CASES = [pytest.param(name, marks=pytest.mark.long if name in EXPENSIVE else ()) for name in NETWORKS]
WAY_OUT = "--target onnx computes it in float32"


@cache
def built(folder: Path, name: str) -> tuple[Artifact, nn.Module, torch.Tensor, list[str]]:
    """The artifact of a network, folded where it can learn masks, and what was told meanwhile; not to be changed."""
    torch.manual_seed(0)
    model, x = NETWORKS[name]()
    if name in (*OPAQUE, *STEP):
        fold(transform(model, "2:4", example_inputs=x, report=None))
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    told: list[str] = []
    artifact = compile_model(model, x, folder / name, target="onnx", name=name, report=told.append)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(module.training for module in model.modules())
    return artifact, model, x, told


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("float")


def initialisers(path: Path) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    for tensor in onnx.load(path).graph.initializer:
        yield numpy_helper.to_array(tensor)


@pytest.mark.parametrize("name", CASES)
def test_built_verified_and_run(folder: Path, name: str) -> None:
    artifact, model, x, told = built(folder, name)
    manifest, loaded = artifact.manifest, load(artifact.path)
    assert manifest.arithmetic == "float32"
    assert told == [f"built in float32, not in whole numbers: {manifest.why}"]
    assert manifest.code["kind"] == ("onnx-step" if name in STEP else "onnx-whole")
    (check,) = verify(artifact.path)
    assert check.passed, format_checks([check])
    assert "not bit for bit" in format_checks([check])

    dim = int(manifest.input.per_step)
    more = torch.cat([x.flip(dim), x * 0.7], dim)
    reset_states(model.eval())
    with torch.no_grad():
        expected = model(more)
    actual = loaded.run(more.numpy())
    assert expected.std() > 0.01  # it spikes, and not always
    close = np.isclose(actual, expected, rtol=1e-3, atol=1e-4)
    assert close.mean() > 0.95


@pytest.mark.parametrize("name", ["PSN", "EIF"])
def test_masks_are_zeros_in_the_model_and_in_the_report(folder: Path, name: str) -> None:
    artifact, model, _, _ = built(folder, name)
    reports = {layer.name: layer for layer in artifact.manifest.layers}
    assert [layer.pattern for layer in reports.values()] == [None, "2:4", "2:4", None]
    (file,) = artifact.path.glob("*.onnx")
    conv, linear = model.get_submodule("layers.3").weight, model.get_submodule("layers.6").weight
    for weight in (conv, linear):
        assert isinstance(weight, torch.Tensor)
        assert Pattern(2, 4).holds(weight)
        same = [
            a for a in initialisers(file) if np.array_equal(a, weight.detach()) or np.array_equal(a.T, weight.detach())
        ]
        assert len(same) == 1
    text = format_manifest(artifact.manifest)
    assert f"because: {artifact.manifest.why}" in text
    assert reports["layers.3"].why in text


def test_the_reason_names_the_node(folder: Path) -> None:
    why = str(built(folder, "PSN")[0].manifest.why)
    assert why.startswith("in module 'layers.2' (PSN) at float_networks.py:")
    assert "layer 'layers.2': SpikingJelly's PSN has no canonical" in why
    assert "and so needs whole sequences" in str(built(folder, "PSN")[0].manifest.why)
    assert str(built(folder, "EIF")[0].manifest.why).startswith("layer 'layers.2' computes exp")
    assert "only" in format_manifest(built(folder, "PSN")[0].manifest)


def test_a_step_model_streams(folder: Path) -> None:
    artifact, _, x, _ = built(folder, "EIF")
    model = load(artifact.path)
    state = model.initial_state(BATCH)
    for t in range(NUM_STEPS):
        output, state = model.step(x[t].numpy(), state)
        assert np.array_equal(output, model.run(x[: t + 1].numpy()))  # any T
    trace = model.trace(x.numpy())
    assert trace.spikes["layers.4"].shape == (NUM_STEPS, BATCH, 8, 5, 5)
    assert 0 < trace.spikes["layers.4"].mean() < 1
    assert all(np.array_equal(trace.states[name], value) for name, value in state.values.items())


def test_a_whole_model_takes_no_steps_and_its_own_length_only(folder: Path) -> None:
    artifact, _, x, _ = built(folder, "PSN")
    model = load(artifact.path)
    with pytest.raises(InputError, match=r"'PSN' was exported whole .*; use run\(x\)"):
        model.initial_state()
    with pytest.raises(InputError, match=r"'PSN' is run for 3 steps; it was exported whole, for 4 steps; give it 4"):
        model.run(x[:3].numpy())
    with pytest.raises(InputError, match=r"the input has shape \[4, 3, 2, 5\]; \[T, B, 2, 5, 5\] is expected"):
        model.run(x[..., 0].numpy())
    with pytest.raises(InputError, match="float32 is supported"):
        model.run(x.double().numpy())


def test_a_static_input_has_the_steps_of_its_neurons(folder: Path) -> None:
    manifest = built(folder, "GatedLIF")[0].manifest
    assert (manifest.input.shape, manifest.input.per_step, manifest.num_steps) == ((2, 5, 5), False, NUM_STEPS)


@pytest.mark.parametrize("name", ["PSN", "EIF"])
def test_one_flipped_byte_is_found(folder: Path, tmp_path: Path, name: str) -> None:
    source = built(folder, name)[0].path
    for file in sorted(path.name for path in source.iterdir()):
        copy = shutil.copytree(source, tmp_path / file)
        content = bytearray((copy / file).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / file).write_bytes(content)
        with pytest.raises(ArtifactError, match="altered or truncated"):
            verify(copy)


def test_other_weights_are_found(folder: Path, tmp_path: Path) -> None:
    model, x = NETWORKS["EIF"]()
    other = compile_model(model, x, tmp_path / "other", target="onnx", report=None)
    artifact = built(folder, "EIF")[0]
    from spikenm_compile.artifact.tensors import read_tensors
    from spikenm_compile.closeness import compare

    vectors = read_tensors(artifact.path / "vectors.safetensors")
    spikes = {name.removeprefix("spikes."): a for name, a in vectors.items() if name.startswith("spikes.")}
    assert not compare("others", load(other.path), vectors["input"], vectors["output"], spikes).passed


def test_a_whole_network_may_be_off_in_few_outputs_and_not_in_all(folder: Path) -> None:
    from spikenm_compile.artifact.tensors import read_tensors
    from spikenm_compile.closeness import compare

    artifact = built(folder, "PSN")[0]
    vectors = read_tensors(artifact.path / "vectors.safetensors")
    model, x, output = load(artifact.path), vectors["input"], vectors["output"]
    flipped = output.copy()
    flipped.flat[0] += 0.02 * np.abs(output).max()
    assert compare("flipped", model, x, flipped, {}).passed
    assert not compare("shifted", model, x, output + 0.02 * np.abs(output).max(), {}).passed


def test_the_same_network_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    artifact, model, x, _ = built(folder, "EIF")
    again = compile_model(model, x, tmp_path / "again", target="onnx", name="EIF", report=None)
    assert again.manifest == artifact.manifest
    for file in artifact.path.iterdir():
        assert str(Path(onnx.__file__).parents[1]).encode() not in file.read_bytes()  # no place on this machine


@pytest.mark.parametrize("name", OPAQUE)
@pytest.mark.parametrize("train", [True, False])
def test_opaque_neurons_are_captured_with_their_gradients(name: str, train: bool) -> None:
    model, x = WHOLE[name]()
    captured = capture(model.train(train), x)
    results = []
    for network in (model, captured):
        reset_states(model)
        output = network(x)
        trained = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(output.sum(), trained, allow_unused=True)
        results.append([output, *(g for g in gradients if g is not None)])
    assert len(results[0]) > 4
    assert len(results[0]) == len(results[1])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", OPAQUE)
def test_layers_between_opaque_neurons_learn_masks(name: str) -> None:
    model, x = WHOLE[name]()
    expected = ["layers.3", "layers.6"] if "PSN" in name else [next(iter(learners(model, x)))]
    transform(model, "2:4", example_inputs=x, report=None)
    assert [masked for masked, _, _ in masked_layers(model)] == expected
    reset_states(model)
    model(x).sum().backward()
    for _, _, learner in masked_layers(model):
        assert all(p.grad is not None for p in learner.parameters())
    fold(model)
    for masked in expected:
        weight = model.get_submodule(masked).weight
        assert isinstance(weight, torch.Tensor)
        assert Pattern(2, 4).holds(weight)


def learners(model: nn.Module, _x: torch.Tensor) -> list[str]:
    """The layer in the middle of a network of three."""
    names = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return {"parts.0": ["parts.2"], "0": ["2"]}.get(names[0], ["middle"])


def test_native_and_whole_numbers_only_are_refused_with_the_way_out(tmp_path: Path) -> None:
    model, x = WHOLE["PSN"]()
    message = rf"layer 'layers.2': .* needs whole sequences; .*; {WAY_OUT}$"
    with pytest.raises(CaptureError, match=message):
        compile_model(model, x, tmp_path / "a")
    with pytest.raises(CaptureError, match=message):
        compile_model(model, x, tmp_path / "a", target="onnx", arithmetic="int8")
    eif, x = STEP["EIF"]()
    with pytest.raises(PassError, match=rf"layer 'layers.2' computes exp.*; {WAY_OUT}$"):
        compile_model(eif, x, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_mistakes_are_no_reason_for_float32(tmp_path: Path) -> None:
    model, x = WHOLE["PSN"]()
    transform(model, "2:4", example_inputs=x, report=None)
    with pytest.raises(PassError, match="still learns its mask"):
        compile_model(model, x, tmp_path / "a", target="onnx")
    fold(model)
    with pytest.raises(CaptureError, match=r"expected input.* to have 2 channels"):
        compile_model(model, x[:, :, :1], tmp_path / "a", target="onnx")
    with pytest.raises(InputError, match="arithmetic 'int4' is unknown; known are auto, int8, float32"):
        compile_model(model, x, tmp_path / "a", target="onnx", arithmetic="int4")
    with pytest.raises(InputError, match="target 'native' computes in whole numbers; float32 is computed by onnx"):
        compile_model(model, x, tmp_path / "a", arithmetic="float32")
    nn.init.ones_(model.get_submodule("layers.3").weight)  # type: ignore[arg-type]
    with pytest.raises(PassError, match=r"layer 'layers.3' was folded to 2:4 but no longer holds it"):
        compile_model(model, x, tmp_path / "a", target="onnx")


def test_whole_numbers_stay_whole_numbers(tmp_path: Path) -> None:
    model, x = jelly(lambda _: neuron.IFNode(step_mode="m"))
    told: list[str] = []
    artifact = compile_model(model, x, tmp_path / "a", target="onnx", report=told.append)
    assert (artifact.manifest.arithmetic, artifact.manifest.why, told) == ("int8", None, [])
    asked = compile_model(model, x, tmp_path / "b", target="onnx", arithmetic="float32", report=told.append)
    assert told == ["built in float32, not in whole numbers: float32 was asked for"]
    assert read_artifact(asked.path).manifest.code["kind"] == "onnx-step"
    assert verify(asked.path)[0].passed


def test_further_inputs_have_no_reference(folder: Path) -> None:
    artifact, _, x, _ = built(folder, "EIF")
    with pytest.raises(InputError, match="computes in float32 and carries no reference for other inputs"):
        verify(artifact.path, {"more": x})
