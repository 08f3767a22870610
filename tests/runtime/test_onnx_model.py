import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from spikenm_compile import runtime
from spikenm_compile.errors import ArtifactError, ToolError

Floats = npt.NDArray[np.float32]
Write = Callable[..., Path]

WEIGHT = np.array([1, 2, -1, 0.5, 0.25, 0, 3, 1, -2, 1, 1, 0.75], np.float32).reshape(3, 4)


def expected_static(x: Floats, num_steps: int) -> tuple[Floats, Floats]:
    """Mean spikes [B, 4] and spikes [T, B, 4] with hard reset."""
    v, spikes = np.full((len(x), 4), 0.5, np.float32), []
    for _ in range(num_steps):
        h = v + x @ WEIGHT
        spikes.append((h >= 1).astype(np.float32))
        v = (1 - spikes[-1]) * h
    found = np.array(spikes)
    return found.sum(0) / np.float32(num_steps), found


def make_input(*shape: int) -> Floats:
    return (np.random.default_rng(sum(shape)).integers(-4, 6, shape) / 8).astype(np.float32)


@pytest.mark.parametrize(("num_steps", "batch"), [(1, 1), (5, 2), (9, 4)])
def test_static_input_is_the_reference(onnx_artifact: Write, num_steps: int, batch: int) -> None:
    model = runtime.load(onnx_artifact())
    x = make_input(batch, 3)
    output, spikes = expected_static(x, num_steps)
    trace = model.trace(x, num_steps)
    np.testing.assert_array_equal(model.run(x, num_steps), output)
    np.testing.assert_array_equal(trace.output, output)
    np.testing.assert_array_equal(trace.spikes["fc"], spikes)
    np.testing.assert_array_equal(trace.states["count"], spikes.sum(0))
    np.testing.assert_array_equal(model.run(x), model.run(x, 5))


def test_static_steps_are_the_run(onnx_artifact: Write) -> None:
    model = runtime.load(onnx_artifact())
    x = make_input(3, 3)
    state = model.initial_state(3)
    for t in range(1, 8):
        output, state = model.step(x, state)
        trace = model.trace(x, t)
        np.testing.assert_array_equal(output, trace.output)
        np.testing.assert_array_equal(state.values["v"], trace.states["v"])
        assert (state.num_steps, state.batch) == (t, 3)


def test_steps_of_an_input_per_step_are_the_run(onnx_artifact: Write) -> None:
    model = runtime.load(onnx_artifact(per_step=True), threads=2)
    x = make_input(6, 2, 4)
    state, outputs = model.initial_state(2), []
    for x_t in x:
        before = state.values["v"].copy()
        output, following = model.step(x_t, state)
        np.testing.assert_array_equal(state.values["v"], before)
        outputs.append(output)
        state = following
    np.testing.assert_array_equal(np.array(outputs), model.run(x))
    np.testing.assert_array_equal(state.values["v"], model.trace(x).states["v"])
    assert model.trace(x).spikes["fc"].shape == (6, 2, 4)


def test_num_steps_may_be_a_float_of_rank_one(onnx_artifact: Write) -> None:
    def edit(text: str) -> str:
        return text.replace("int64 num_steps, float[B,4] v,", "float[1] num_steps, float[B,4] v,")

    model = runtime.load(onnx_artifact(edit=edit))
    x = make_input(2, 3)
    np.testing.assert_array_equal(model.step(x, model.initial_state(2))[0], model.run(x, 1))


def test_states_take_the_type_of_the_model(onnx_artifact: Write) -> None:
    def edit(text: str) -> str:
        text = text.replace("float[B,4] v, float[B,4] count)\n    =>", "float[B,4] v, double[B,4] count)\n    =>")
        return text.replace(
            "count_next = Add(count, spikes_fc)", "c = Cast<to = 1>(count) count_next = Add(c, spikes_fc)"
        )

    model = runtime.load(onnx_artifact(edit=edit))
    assert model.initial_state().values["count"].dtype == np.float64
    assert model.initial_state().values["v"].tolist() == [[0.5] * 4]


@pytest.mark.parametrize("name", ["x", "v", "count", "output", "v_next", "spikes_fc"])
def test_names_that_do_not_fit(onnx_artifact: Write, name: str) -> None:
    path = onnx_artifact(edit=lambda text: re.sub(rf"\b{name}\b", "other", text))
    with pytest.raises(ArtifactError, match=rf"onnx: input or output '{name}' does not fit the manifest; build"):
        runtime.load(path)


def test_inputs_that_the_manifest_does_not_know(onnx_artifact: Write) -> None:
    path = onnx_artifact(edit=lambda text: text.replace("step (float[B,3] x", "step (float[B,3] x, float more"))
    with pytest.raises(ArtifactError, match=r"step\.onnx: input or output 'more' does not fit"):
        runtime.load(path)


def test_a_sequence_of_static_input_must_take_num_steps(onnx_artifact: Write) -> None:
    def edit(text: str) -> str:
        return re.sub(r"\bnum_steps\b", "count", text) if "sequence (" in text else text

    with pytest.raises(ArtifactError, match=r"sequence\.onnx: input or output 'num_steps' does not fit"):
        runtime.load(onnx_artifact(edit=edit))


def test_input_types_that_are_not_supported(onnx_artifact: Write) -> None:
    with pytest.raises(ArtifactError, match=r"step\.onnx: input 'num_steps' is a tensor\(uint64\); supported: "):
        runtime.load(
            onnx_artifact(
                edit=lambda text: text.replace("int64 num_steps, float[B,4] v", "uint64 num_steps, float[B,4] v")
            )
        )


def test_a_model_that_onnxruntime_cannot_load(onnx_artifact: Write) -> None:
    with pytest.raises(ToolError, match=r"onnxruntime .* cannot load .*step\.onnx \(.*\); install a newer"):
        runtime.load(onnx_artifact(edit=lambda text: text.replace("Div(", "Dive(")))


def test_missing_onnxruntime(onnx_artifact: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ToolError, match=r"onnxruntime cannot be imported \(.*\); .* pip install onnxruntime"):
        runtime.load(onnx_artifact())


def test_wrong_code_sections(onnx_artifact: Write) -> None:
    with pytest.raises(ArtifactError, match=r"field 'code\.step' is 'a\.onnx'; a file of the artifact is expected"):
        runtime.load(onnx_artifact(step="a.onnx"))
    with pytest.raises(ArtifactError, match=r"field 'code\.spikes\[0\]\.layer' is missing"):
        runtime.load(onnx_artifact(spikes=[{"shape": [4]}]))
