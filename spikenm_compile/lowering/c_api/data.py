"""Numbers as C arrays: the stored weights, and the test vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from spikenm_compile.lowering.c_api.interface import Interface
from spikenm_compile.lowering.c_api.text import c_float
from spikenm_compile.lowering.program import Program, Space

WEIGHTS, VECTORS = "weights.c", "test_vectors.h"
NUM_VECTORS = 2
"""Most samples that become C arrays."""

Array = np.ndarray[Any, np.dtype[Any]]


def packed_weights(program: Program, tensors: Mapping[str, Array]) -> Array:
    """What `prepare` reads: the stored tensors at their places, uint8 [sizes[PACKED]]."""
    packed = np.zeros(program.sizes[Space.PACKED], np.uint8)
    for part in program.packed:
        packed[part["offset"] : part["offset"] + part["bytes"]] = tensors[part["tensor"]].reshape(-1).view(np.uint8)
    return packed


def weights_text(interface: Interface, packed: Array) -> str:
    """weights.c: little-endian words, which a compiler reads eight times as fast as bytes."""
    words = packed.view("<u8") if len(packed) else np.zeros(1, "<u8")
    rows = (",".join(f"{word:#x}" for word in words[i : i + 8].tolist()) for i in range(0, len(words), 8))
    symbol = f"const uint64_t {interface.prefix}_weights[{len(words)}]"
    return f"#include <stdint.h>\n\nextern {symbol};\n{symbol} = {{\n" + ",\n".join(rows) + "\n};\n"


def vectors_text(interface: Interface, vectors: Mapping[str, Array]) -> str:
    """test_vectors.h: input, output and spikes of the last layer of a few samples.

    Args:
        interface: of the network.
        vectors: input [B, ...] or [T, B, ...], output likewise, `spikes.<layer>` [T, B, ...].
    """
    n, name = interface.name, interface.name.upper()
    inputs = _samples_first(vectors["input"], interface.input_per_step)[:NUM_VECTORS]
    outputs = _samples_first(vectors["output"], interface.output_per_step)[: len(inputs)]
    spikes = _last_spikes(interface, vectors, len(inputs))
    steps = inputs.shape[1] if interface.input_per_step else interface.num_steps
    macros = {
        "VECTORS": len(inputs),
        "VECTOR_STEPS": steps,
        "VECTOR_INPUTS": inputs.shape[1],
        "VECTOR_OUTPUTS": outputs.shape[1],
        "VECTOR_NEURONS": spikes.shape[2],
    }
    parts = [
        "/* Inputs, and what must come out bit for bit: outputs, and the spikes of the last layer of neurons. */",
        "#include <math.h> /* INFINITY and NAN, where there are any */\n#include <stdint.h>\n",
        "".join(f"#define {name}_{key} {value}\n" for key, value in macros.items()),
        _array(f"float {n}_vector_input[{name}_VECTORS][{name}_VECTOR_INPUTS][{inputs.shape[2]}]", inputs, c_float),
        _array(f"float {n}_vector_output[{name}_VECTORS][{name}_VECTOR_OUTPUTS][{outputs.shape[2]}]", outputs, c_float),
        _array(
            f"uint8_t {n}_vector_spikes[{name}_VECTORS][{name}_VECTOR_STEPS][{name}_VECTOR_NEURONS + 1]", spikes, str
        ),
    ]
    return "\n".join(parts)


def _samples_first(values: Array, per_step: bool) -> Array:
    """[B, T, values]; T is 1 where there is one value for all steps."""
    values = values.swapaxes(0, 1) if per_step else values[:, None]
    return values.reshape(*values.shape[:2], -1)


def _last_spikes(interface: Interface, vectors: Mapping[str, Array], samples: int) -> Array:
    """[B, T, neurons] of the last layer; no neurons where no spikes are kept."""
    if not interface.neurons:
        return np.zeros((samples, interface.num_steps, 0), np.uint8)
    return _samples_first(vectors[f"spikes.{interface.neurons[-1].name}"], True)[:samples]


def _array(declaration: str, values: Array, literal: Any) -> str:
    return f"static const {declaration} = {{\n" + ",\n".join(_rows(values, literal)) + "\n};\n"


def _rows(values: Array, literal: Any) -> Iterator[str]:
    for sample in values:
        yield "{" + ",\n ".join("{" + ",".join(map(literal, step.tolist() or [0])) + "}" for step in sample) + "}"
