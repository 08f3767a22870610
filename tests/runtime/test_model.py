import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikenm_compile import runtime
from spikenm_compile.errors import ArtifactError, InputError, TargetError

Write = Callable[..., Path]


@pytest.fixture(params=["native", "onnx_artifact"])
def write(request: pytest.FixtureRequest) -> Write:
    found: Write = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1.0, 2.0, 3.0]], "the input is a list; a numpy array is supported; use numpy.asarray(x, numpy.float32)"),
        (np.zeros((1, 3)), "the input has dtype float64; float32 is supported; use x.astype(numpy.float32)"),
        (np.zeros((1, 3), ">f4"), "the input has dtype >f4; float32 is supported"),
        (np.zeros(3, np.float32), "the input has shape [3]; [B, 3] is expected; reshape it"),
        (np.zeros((1, 4), np.float32), "the input has shape [1, 4]; [B, 3] is expected; reshape it"),
        (np.zeros((1, 1, 3), np.float32), "the input has shape [1, 1, 3]; [B, 3] is expected"),
        (np.zeros((0, 3), np.float32), "the input has shape [0, 3] and so no value; give at least one sample"),
    ],
)
def test_wrong_input(write: Write, x: Any, message: str) -> None:
    model = runtime.load(write())
    with pytest.raises(InputError, match=re.escape(message)):
        model.run(x)
    with pytest.raises(InputError, match=re.escape(message)):
        model.trace(x)
    with pytest.raises(InputError, match=re.escape(message)):
        model.step(x, model.initial_state())


def test_wrong_input_per_step(native: Write) -> None:
    model = runtime.load(native(input_per_step=True))
    with pytest.raises(InputError, match=r"has shape \[1, 3\]; \[T, B, 3\] is expected"):
        model.run(np.zeros((1, 3), np.float32))
    with pytest.raises(InputError, match="num_steps=4, but the input holds 2 steps; leave num_steps out"):
        model.run(np.zeros((2, 1, 3), np.float32), 4)
    with pytest.raises(InputError, match=r"shape \[0, 1, 3\] and so no value"):
        model.run(np.zeros((0, 1, 3), np.float32))


@pytest.mark.parametrize("num_steps", [0, -3])
def test_no_steps(write: Write, num_steps: int) -> None:
    with pytest.raises(InputError, match=f"num_steps={num_steps} runs nothing; give num_steps >= 1"):
        runtime.load(write()).run(np.zeros((1, 3), np.float32), num_steps)


def test_strided_input_gives_what_a_copy_gives(write: Write) -> None:
    model = runtime.load(write())
    wide = np.random.default_rng(0).integers(0, 4, (4, 6)).astype(np.float32)
    np.testing.assert_array_equal(model.run(wide[::2, ::2]), model.run(wide[::2, ::2].copy()))
    read_only = wide[:, :3].copy()
    read_only.flags.writeable = False
    assert model.run(read_only).any()


def test_states_of_others(write: Write, native: Write) -> None:
    model, other = runtime.load(write()), runtime.load(native(name="other"))
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(InputError, match=r"belongs to another model than '\w+'; .* use initial_state\(\)"):
        model.step(x, other.initial_state(2))
    with pytest.raises(
        InputError, match=r"the state is for a batch of 1, but the input has 2 samples; use initial_state\(batch=2"
    ):
        model.step(x, model.initial_state())
    with pytest.raises(InputError, match="a batch of 0 samples cannot be made; give batch >= 1"):
        model.initial_state(0)


def test_a_state_serves_every_loading_of_its_artifact(write: Write) -> None:
    path = write()
    x = np.ones((1, 3), np.float32)
    state = runtime.load(path).initial_state()
    np.testing.assert_array_equal(runtime.load(str(path)).step(x, state)[0], runtime.load(path).run(x, 1))


def test_repr_and_manifest(native: Write) -> None:
    model = runtime.load(native())
    assert repr(model) == "<NativeModel 'native' for cpu: [3] to [2], T=5>"
    assert model.manifest.num_steps == 5


def test_threads_below_one(native: Write) -> None:
    with pytest.raises(InputError, match="threads=0 cannot run anything; give threads >= 1"):
        runtime.load(native(), threads=0)


def test_kinds_that_python_cannot_run(native: Write) -> None:
    with pytest.raises(
        TargetError,
        match="holds code of kind 'metal'; Python runs native, c_library, onnx and cuda; build it for another",
    ):
        runtime.load(native(kind="metal"))


def test_every_file_is_checked_before_it_is_used(write: Write) -> None:
    path = write()
    for file in sorted(path.iterdir()):
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ArtifactError, match=f"{file.name} was altered or truncated"):
            runtime.load(path)
        file.write_bytes(content)


def test_running_needs_numpy_only(native: Write) -> None:
    program = f"""
import sys
import numpy as np
from spikenm_compile.runtime import load
from spikenm_compile.artifact import code, directory, fields, manifest, packing, tensors
load({str(native())!r}).run(np.zeros((1, 3), np.float32))
heavy = {{"torch", "tvm", "onnx", "onnxruntime", "safetensors"}} & set(sys.modules)
compiler = [m for m in sys.modules if m.startswith("spikenm_compile.") and m.split(".")[1]
            not in ("artifact", "runtime", "errors", "pattern")]
assert not heavy and not compiler, (heavy, compiler)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_the_door_is_small() -> None:
    assert sorted(runtime.__all__) == ["Model", "State", "Trace", "load"]
