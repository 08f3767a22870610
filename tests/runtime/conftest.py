"""Two small artifacts that run: one layer of integrate-and-fire neurons as C compiled here, and another as ONNX."""

import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest

from spikenm_compile.artifact.directory import write_artifact
from spikenm_compile.artifact.manifest import InputSpec, Manifest, OutputSpec
from spikenm_compile.artifact.tensors import write_tensors

Floats = npt.NDArray[np.float32]

HEIGHT, CHANNELS, INPUTS, MAX_STEPS = 2, 70, 3, 3

SOURCE = """
#include <stdint.h>
#include <string.h>
enum { HEIGHT = 2, CHANNELS = 70, INPUTS = 3, COUNT = 576, CURRENT = 0, SPIKES = 576, ROW = 3 * 2, PLANE = 4 * ROW };
#define ARGUMENTS const uint8_t *params, const float *input, uint8_t *state, uint8_t *arena, float *output, \\
    int32_t num_steps
static int bad(const void *p) { return ((uintptr_t)p & 63) != 0; }
static void currents(const float *w, const float *x, float *current) {
    for (int y = 0; y < HEIGHT; y++)
        for (int c = 0; c < CHANNELS; c++)
            current[y * CHANNELS + c] = (y + 1) * (w[c * 3] * x[0] + w[c * 3 + 1] * x[1] + w[c * 3 + 2] * x[2]);
}
int32_t spikenm_prepare(const uint8_t *packed, uint8_t *params) {
    if (bad(packed) || bad(params)) return 9;
    for (int i = 0; i < CHANNELS * INPUTS; i++) ((float *)params)[i] = (int8_t)packed[16 + i];
    return 0;
}
int32_t spikenm_before(ARGUMENTS) {
    if (bad(params) || bad(input) || bad(state) || bad(arena) || bad(output)) return 9;
    if (!INPUT_PER_STEP) currents((const float *)params, input, (float *)(arena + CURRENT));
    return 0;
}
int32_t spikenm_steps(ARGUMENTS) {
    if (bad(params) || bad(input) || bad(state) || bad(arena) || bad(output)) return 9;
    if (num_steps < 1 || num_steps > MAX_STEPS) return 8;
    if (input[0] > 1e30f) return 7;
    float *v = (float *)state, *count = (float *)(state + COUNT), *current = (float *)(arena + CURRENT);
    uint64_t *words = (uint64_t *)(arena + SPIKES);
    for (int t = 0; t < num_steps; t++) {
        if (INPUT_PER_STEP) currents((const float *)params, input + t * INPUTS, current);
        for (int y = 0; y < HEIGHT; y++) {
            uint64_t *word = words + t * PLANE + (y + 1) * ROW + 2;
            float fired = 0;
            word[0] = word[1] = 0;
            for (int c = 0; c < CHANNELS; c++) {
                float h = v[y * CHANNELS + c] + current[y * CHANNELS + c];
                uint64_t s = h >= 1.0f;
                word[c / 64] |= s << (c % 64);
                v[y * CHANNELS + c] = s ? 0.0f : h;
                fired += s;
            }
            count[y] += fired;
            if (OUTPUT_PER_STEP) output[t * HEIGHT + y] = fired;
        }
    }
    return 0;
}
#ifndef NO_AFTER
int32_t spikenm_after(ARGUMENTS) {
    if (OUTPUT_PER_STEP) return 6;
    for (int y = 0; y < HEIGHT; y++) output[y] = ((float *)(state + COUNT))[y] / num_steps;
    return 0;
}
#endif
"""

CODE: dict[str, Any] = {
    "kind": "native",
    "library": "model.so",
    "machine": platform.machine(),
    "cpu_features": [],
    "packed_bytes": 16 + CHANNELS * INPUTS,
    "packed": [{"tensor": "fc.values", "offset": 16, "bytes": CHANNELS * INPUTS}],
    "params_bytes": CHANNELS * INPUTS * 4,
    "state_bytes": 640,
    "arena_bytes": 576 + MAX_STEPS * 4 * 3 * 2 * 8,
    "max_steps": MAX_STEPS,
    "states": [
        {"name": "v", "offset": 0, "shape": [HEIGHT, 1, CHANNELS], "init": 0.125},
        {"name": "count", "offset": 576, "shape": [HEIGHT], "init": 0.0},
    ],
    "spikes": [{"layer": "fc", "offset": 576, "height": HEIGHT, "width": 1, "channels": CHANNELS, "halo": 1}],
}


def weights() -> npt.NDArray[np.int8]:
    return np.random.default_rng(0).integers(-3, 5, (CHANNELS, INPUTS)).astype(np.int8)


@dataclass(frozen=True)
class Expected:
    """What the network does, computed with numpy: batch first, time second."""

    rates: Floats
    fired: Floats
    v: Floats
    count: Floats
    spikes: npt.NDArray[np.bool_]


@pytest.fixture(scope="session")
def reference() -> Callable[[Floats], Expected]:
    """The native network on x [T, B, 3]."""

    def run(x: Floats) -> Expected:
        factor = np.arange(1, HEIGHT + 1, dtype=np.float32)[:, None, None]
        v = np.full((x.shape[1], HEIGHT, 1, CHANNELS), 0.125, np.float32)
        spikes = []
        for x_t in x:
            h = v + (x_t @ weights().T.astype(np.float32))[:, None, None] * factor
            spikes.append(h >= 1)
            v = np.where(h >= 1, np.float32(0), h)
        fired = np.array(spikes).sum((3, 4)).astype(np.float32)
        count = fired.sum(0)
        return Expected(count / np.float32(len(x)), fired, v, count, np.array(spikes).transpose(0, 1, 4, 2, 3))

    return run


@pytest.fixture(scope="session")
def compile_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """Compile SOURCE with definitions; the bytes of the shared library."""
    built: dict[tuple[str, ...], bytes] = {}

    def build(*definitions: str) -> bytes:
        if definitions not in built:
            folder = tmp_path_factory.mktemp("library")
            (folder / "model.c").write_text(SOURCE)
            flags = ["-O1", "-shared", "-fPIC", f"-DMAX_STEPS={MAX_STEPS}", *(f"-D{d}" for d in definitions)]
            subprocess.run(["gcc", *flags, "-o", folder / "model.so", folder / "model.c"], check=True)
            built[definitions] = (folder / "model.so").read_bytes()
        return built[definitions]

    return build


@pytest.fixture
def native(tmp_path: Path, compile_library: Callable[..., bytes]) -> Callable[..., Path]:
    """Write the native artifact; keywords replace entries of its code section."""

    def write(
        *definitions: str,
        input_per_step: bool = False,
        output_per_step: bool = False,
        name: str = "native",
        **code: object,
    ) -> Path:
        modes = f"INPUT_PER_STEP={input_per_step:d}", f"OUTPUT_PER_STEP={output_per_step:d}"
        library = compile_library(*modes, *definitions)

        def fill(directory: Path) -> Manifest:
            (directory / "model.so").write_bytes(library)
            write_tensors(directory / "weights.safetensors", {"fc.values": weights().reshape(-1)})
            return manifest(name, INPUTS, HEIGHT, input_per_step, output_per_step, {**CODE, **code})

        return write_artifact(tmp_path / name, fill).path

    return write


ONNX_STEP = """
<ir_version: 8, opset_import: ["" : 18]>
step (float[B,3] x, int64 num_steps, float[B,4] v, float[B,4] count)
    => (float[B,4] output, float[B,4] v_next, float[B,4] count_next, float[B,4] spikes_fc)
<float[3,4] w = {1, 2, -1, 0.5, 0.25, 0, 3, 1, -2, 1, 1, 0.75}> {
    current = MatMul(x, w)
    one = Constant<value = float {1}>()
    h = Add(v, current)
    fired = GreaterOrEqual(h, one)
    spikes_fc = Cast<to = 1>(fired)
    kept = Sub(one, spikes_fc)
    v_next = Mul(kept, h)
    count_next = Add(count, spikes_fc)
    total = Cast<to = 1>(num_steps)
    output = Div(count_next, total)
}
"""

ONNX_SEQUENCE = """
<ir_version: 8, opset_import: ["" : 18]>
sequence (float[B,3] x, int64 num_steps)
    => (float[B,4] output, float[B,4] v_next, float[B,4] count_next, float[T,B,4] spikes_fc)
<float[3,4] w = {1, 2, -1, 0.5, 0.25, 0, 3, 1, -2, 1, 1, 0.75}> {
    current = MatMul(x, w)
    one = Constant<value = float {1}>()
    size = Shape(current)
    zero = ConstantOfShape<value = float[1] {0}>(size)
    first = ConstantOfShape<value = float[1] {0.5}>(size)
    go = Constant<value = bool {1}>()
    v_next, count_next, spikes_fc = Loop(num_steps, go, first, zero) <body = one_step
        (int64 i, bool going, float[B,4] v, float[B,4] count)
        => (bool going_on, float[B,4] v_out, float[B,4] count_out, float[B,4] s) {
            going_on = Identity(going)
            h = Add(v, current)
            fired = GreaterOrEqual(h, one)
            s = Cast<to = 1>(fired)
            kept = Sub(one, s)
            v_out = Mul(kept, h)
            count_out = Add(count, s)
        }>
    total = Cast<to = 1>(num_steps)
    output = Div(count_next, total)
}
"""

ONNX_STEP_PER_STEP = """
<ir_version: 8, opset_import: ["" : 18]>
step (float[B,4] x, float[B,4] v) => (float[B,4] output, float[B,4] v_next, float[B,4] spikes_fc) {
    one = Constant<value = float {1}>()
    h = Add(v, x)
    fired = GreaterOrEqual(h, one)
    spikes_fc = Cast<to = 1>(fired)
    v_next = Sub(h, spikes_fc)
    output = Identity(spikes_fc)
}
"""

ONNX_SEQUENCE_PER_STEP = """
<ir_version: 8, opset_import: ["" : 18]>
sequence (float[T,B,4] x) => (float[T,B,4] output, float[B,4] v_next, float[T,B,4] spikes_fc) {
    one = Constant<value = float {1}>()
    shape = Shape<start = 1>(x)
    first = ConstantOfShape<value = float[1] {0.5}>(shape)
    v_next, spikes_fc = Scan<num_scan_inputs = 1, body = one_step
        (float[B,4] v, float[B,4] x_t) => (float[B,4] v_out, float[B,4] s) {
            h = Add(v, x_t)
            fired = GreaterOrEqual(h, one)
            s = Cast<to = 1>(fired)
            v_out = Sub(h, s)
        }>(first, x)
    output = Identity(spikes_fc)
}
"""


@pytest.fixture
def onnx_artifact(tmp_path: Path) -> Callable[..., Path]:
    """Write the ONNX artifact; `edit` may change the two model texts, keywords replace entries of its code section."""

    def write(*, per_step: bool = False, edit: Callable[[str], str] = str, name: str = "onnx", **code: object) -> Path:
        texts = (ONNX_STEP_PER_STEP, ONNX_SEQUENCE_PER_STEP) if per_step else (ONNX_STEP, ONNX_SEQUENCE)
        states = [{"name": "v", "shape": [4], "init": 0.5}]
        states += [] if per_step else [{"name": "count", "shape": [4], "init": 0}]
        section = {"kind": "onnx", "step": "step.onnx", "sequence": "sequence.onnx", "states": states, "opset": 18}
        section |= {"spikes": [{"layer": "fc", "shape": [4]}], **code}

        def fill(directory: Path) -> Manifest:
            for file, text in zip(("step.onnx", "sequence.onnx"), texts, strict=True):
                onnx.save(onnx.parser.parse_model(edit(text)), directory / file)
            return manifest(name, 4 if per_step else 3, 4, per_step, per_step, section)

        return write_artifact(tmp_path / name, fill).path

    return write


def manifest(
    name: str, inputs: int, outputs: int, input_per_step: bool, output_per_step: bool, code: dict[str, object]
) -> Manifest:
    return Manifest(
        producer="test",
        name=name,
        target="cpu",
        pattern=None,
        num_steps=5,
        input=InputSpec((inputs,), input_per_step, "real"),
        output=OutputSpec((outputs,), output_per_step),
        layers=(),
        code=code,
    )
