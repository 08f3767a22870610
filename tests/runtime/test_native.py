from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pytest

from spikenm_compile import runtime
from spikenm_compile.errors import ArtifactError, TargetError
from spikenm_compile.runtime import library

Floats = npt.NDArray[np.float32]
Write = Callable[..., Path]


class Expected(Protocol):
    rates: Floats
    fired: Floats
    v: Floats
    count: Floats
    spikes: npt.NDArray[np.bool_]


Reference = Callable[[Floats], Expected]

MODES = [(False, False), (False, True), (True, False), (True, True)]


def make_input(num_steps: int, batch: int, per_step: bool) -> tuple[Floats, Floats]:
    """Input of the artifact, and the same as [T, B, 3] for the reference. Quarters, so that sums are exact."""
    rng = np.random.default_rng(num_steps * 10 + batch)
    x = (rng.integers(-4, 5, (num_steps, batch, 3)) / 16).astype(np.float32)
    return (x, x) if per_step else (x[0], np.repeat(x[:1], num_steps, axis=0))


@pytest.mark.parametrize(("input_per_step", "output_per_step"), MODES)
@pytest.mark.parametrize(("num_steps", "batch"), [(1, 1), (2, 3), (3, 1), (4, 2), (7, 5)])
def test_trace_is_the_reference(
    native: Write, reference: Reference, input_per_step: bool, output_per_step: bool, num_steps: int, batch: int
) -> None:
    model = runtime.load(native(input_per_step=input_per_step, output_per_step=output_per_step))
    x, every_step = make_input(num_steps, batch, input_per_step)
    actual, expected = model.trace(x, num_steps), reference(every_step)
    np.testing.assert_array_equal(actual.output, expected.fired if output_per_step else expected.rates)
    np.testing.assert_array_equal(actual.states["v"], expected.v)
    np.testing.assert_array_equal(actual.states["count"], expected.count)
    np.testing.assert_array_equal(actual.spikes["fc"], expected.spikes)
    assert actual.spikes["fc"].dtype == np.uint8
    assert expected.spikes.any()
    assert not expected.spikes.all()
    run = model.run(x, num_steps)
    assert run.dtype == np.float32
    assert run.flags.c_contiguous
    np.testing.assert_array_equal(run, actual.output)


@pytest.mark.parametrize(("input_per_step", "output_per_step"), MODES)
def test_steps_are_the_run(native: Write, input_per_step: bool, output_per_step: bool) -> None:
    model = runtime.load(native(input_per_step=input_per_step, output_per_step=output_per_step))
    x, every_step = make_input(8, 3, input_per_step)
    state = model.initial_state(batch=3)
    outputs = []
    for t, x_t in enumerate(every_step, start=1):
        output, state = model.step(x_t, state)
        outputs.append(output)
        part = model.trace(x[:t] if input_per_step else x, t)
        np.testing.assert_array_equal(np.array(outputs) if output_per_step else output, part.output)
        np.testing.assert_array_equal(state.values["v"], part.states["v"])
        assert state.num_steps == t


def test_a_step_leaves_its_state_as_it_was(native: Write) -> None:
    model = runtime.load(native())
    x, _ = make_input(1, 2, False)
    _, first = model.step(x, model.initial_state(2))
    before = first.memory.copy()
    output, second = model.step(x, first)
    np.testing.assert_array_equal(first.memory, before)
    assert (second.memory != before).any()
    np.testing.assert_array_equal(model.step(x, first)[0], output)


def test_initial_state_has_its_first_values(native: Write) -> None:
    state = runtime.load(native()).initial_state(2)
    assert state.values["v"].shape == (2, 2, 1, 70)
    assert (state.values["v"] == 0.125).all()
    assert (state.values["count"] == 0).all()
    assert (state.batch, state.num_steps) == (2, 0)


def test_first_values_may_be_infinite(native: Write) -> None:
    states = [{"name": "v", "offset": 4, "shape": [3], "init": float("-inf")}]
    state = runtime.load(native(states=states)).initial_state()
    assert (state.values["v"] == -np.inf).all()
    assert not state.memory[0, :4].any()


def test_samples_do_not_depend_on_their_batch(native: Write) -> None:
    model = runtime.load(native())
    x, _ = make_input(1, 6, False)
    np.testing.assert_array_equal(model.run(x), np.concatenate([model.run(x[b : b + 1]) for b in range(6)]))


def test_default_number_of_steps(native: Write) -> None:
    x, _ = make_input(1, 1, False)
    model = runtime.load(native())
    np.testing.assert_array_equal(model.run(x), model.run(x, 5))
    assert (
        len(runtime.load(native(input_per_step=True, output_per_step=True)).run(np.zeros((7, 1, 3), np.float32))) == 7
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_many_threads_give_the_same(native: Write, threads: int) -> None:
    model = runtime.load(native(), threads=threads)
    x, _ = make_input(1, 16, False)
    expected = runtime.load(native()).run(x, 11)
    with ThreadPoolExecutor(4) as pool:
        for actual in pool.map(lambda _: model.run(x, 11), range(20)):
            np.testing.assert_array_equal(actual, expected)


def test_a_rebuilt_artifact_is_not_taken_for_the_old_one(native: Write, reference: Reference) -> None:
    x, every_step = make_input(4, 1, False)
    old = runtime.load(native())
    before = old.run(x)
    new = runtime.load(native(output_per_step=True))
    assert new.path == old.path
    np.testing.assert_array_equal(new.run(x, 4), reference(every_step).fired)
    np.testing.assert_array_equal(old.run(x), before)


def test_a_failing_call_is_named_and_the_model_goes_on(native: Write) -> None:
    model = runtime.load(native())
    x, _ = make_input(1, 1, False)
    for _ in range(3):
        with pytest.raises(ArtifactError, match=r"model\.so: spikenm_steps failed with code 7; build"):
            model.run(np.full((1, 3), 1e31, np.float32))
    np.testing.assert_array_equal(model.run(x), runtime.load(native()).run(x))


def test_nan_input_is_left_to_the_code(native: Write) -> None:
    assert (runtime.load(native()).run(np.full((1, 3), np.nan, np.float32)) == 0).all()


def test_other_machine(native: Write) -> None:
    with pytest.raises(TargetError, match=r"artifact 'native' is built for riscv64, but this machine is .*; build it"):
        runtime.load(native(machine="riscv64"))


def test_missing_features_are_named_before_the_library_is_loaded(
    native: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(library, "open_library")
    with pytest.raises(TargetError, match="uses the processor features avx9000, mmx0, which this machine lacks; build"):
        runtime.load(native(cpu_features=["avx9000", "mmx0"]))


def test_a_library_without_a_function(native: Write) -> None:
    with pytest.raises(ArtifactError, match=r"model\.so lacks the function spikenm_after; build"):
        runtime.load(native("NO_AFTER"))


def test_a_library_that_is_none(native: Write) -> None:
    path = native(library="weights.safetensors")
    with pytest.raises(
        TargetError, match=r"weights\.safetensors cannot be loaded \(.*\); build the artifact for"
    ) as info:
        runtime.load(path)
    assert "spikenm-" not in str(info.value)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("library", "other.so", r"field 'code\.library' is 'other\.so'; a file of the artifact is expected"),
        ("max_steps", 0, r"field 'code\.max_steps' is 0; a whole number >= 1"),
        ("cpu_features", [3], r"field 'code\.cpu_features' is \[3\]; a list of texts"),
        ("state_bytes", 580, r"field 'code\.states' is .* inside 580 bytes"),
        ("arena_bytes", 576 + 3 * 192 - 1, r"field 'code\.spikes' is .* inside an arena of 1151 bytes"),
        ("packed_bytes", 225, r"field 'code\.packed' is .* inside 225 bytes"),
        ("params_bytes", -1, r"field 'code\.params_bytes' is -1"),
        (
            "packed",
            [{"tensor": "fc.values", "offset": 0, "bytes": 209}],
            r"holds 210 bytes of tensor 'fc\.values'; .* 209",
        ),
        ("packed", [{"tensor": "w", "offset": 0, "bytes": 9}], "holds no bytes of tensor 'w'; its code needs 9; build"),
        ("packed", [{"tensor": "w", "offset": 0}], r"field 'code\.packed\[0\]\.bytes' is missing"),
    ],
)
def test_wrong_code_sections(native: Write, entry: str, value: object, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        runtime.load(native(**{entry: value}))


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("states", {"offset": 2}, r"field 'code\.states\[0\]\.offset' is 2; a multiple of 4"),
        ("states", {"offset": 20}, "parts that do not overlap"),
        ("states", {"init": "high"}, r"field 'code\.states\[0\]\.init' is 'high'; a number"),
        ("spikes", {"offset": 4}, r"field 'code\.spikes\[0\]\.offset' is 4; a multiple of 8"),
        ("spikes", {"channels": 0}, r"field 'code\.spikes\[0\]\.channels' is 0"),
        ("spikes", {"halo": 2}, "inside an arena"),
    ],
)
def test_wrong_parts_of_the_code_section(native: Write, section: str, change: dict[str, Any], message: str) -> None:
    parts: dict[str, list[dict[str, object]]] = {
        "states": [
            {"name": "v", "offset": 0, "shape": [140], "init": 0.0},
            {"name": "count", "offset": 576, "shape": [2], "init": 0.0},
        ],
        "spikes": [{"layer": "fc", "offset": 576, "height": 2, "width": 1, "channels": 70, "halo": 1}],
    }
    parts[section][0] |= change
    with pytest.raises(ArtifactError, match=message):
        runtime.load(native(**parts))
