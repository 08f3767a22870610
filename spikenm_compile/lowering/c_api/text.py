"""The text of model.h, model.c and the examples: the templates beside this file with the facts of a network."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from spikenm_compile.lowering.c_api.cpu_check import CpuCheck
from spikenm_compile.lowering.c_api.interface import STEP_US, Interface
from spikenm_compile.lowering.program import ALIGNMENT

HEADER, SOURCE = "model.h", "model.c"
TEMPLATES = {
    HEADER: "model.h.in",
    SOURCE: "model.c.in",
    "example_run.c": "example_run.c.in",
    "example_stream.c": "example_stream.c.in",
}
"""File of the artifact -> its template."""

T = TypeVar("T")


def c_files(interface: Interface, check: CpuCheck, library: str = "libmodel.a") -> dict[str, str]:
    """File name -> text of all files that depend on the interface alone.

    Args:
        interface: of the network.
        check: of the CPU.
        library: what is linked with a program that uses the network, for the comments that say how.
    """
    words = _words(interface, check) | {"LIBRARY": library}
    return {file: fill((Path(__file__).parent / template).read_text(), words) for file, template in TEMPLATES.items()}


def exported(interface: Interface) -> list[str]:
    """Names of the functions of model.h."""
    header = (Path(__file__).parent / TEMPLATES[HEADER]).read_text()
    return [f"{interface.name}_{name}" for name in re.findall(r"^[^\s/][^;\n]*?@n@_(\w+)\(", header, re.MULTILINE)]


def fill(template: str, words: dict[str, str]) -> str:
    """The template with every @WORD@ replaced."""
    return re.sub(r"@(\w+)@", lambda match: words[match.group(1)], template)


def c_string(text: str) -> str:
    """A C string literal."""
    safe = "".join(
        c if " " <= c <= "~" and c not in '"\\?' else f"\\{ord(c):03o}" for c in text.encode().decode("latin-1")
    )
    return f'"{safe}"'


def c_float(value: float) -> str:
    """A literal of exactly that float32, which 9 digits tell from all others; infinities and NaN need <math.h>."""
    if value != value:
        return "NAN"
    if abs(value) == float("inf"):
        return "INFINITY" if value > 0 else "-INFINITY"
    digits = f"{value:.9g}"
    return f"{digits}f" if "." in digits or "e" in digits else f"{digits}.0f"


def _words(i: Interface, check: CpuCheck) -> dict[str, str]:
    channels, height, width = i.input_shape
    return {
        "n": i.name,
        "N": i.name.upper(),
        "k": i.prefix,
        "TITLE": _comment(f"{i.title} for {i.target}, T = {i.num_steps}, weights {i.pattern}"),
        "INPUT_TEXT": f"{channels} channels of {height} x {width} pixels",
        "LEVELS": _comment(i.levels),
        "INPUT_TIME": _input_time(i),
        "OUTPUT_TEXT": _output_text(i),
        "OUTPUT_STEP": "that of this step" if i.output_per_step else "over the steps since the reset",
        "RUN_INPUT": "[num_steps][C][H][W]" if i.input_per_step else "[C][H][W], the same at each step",
        "RUN_OUTPUT": f"[{'num_steps][' if i.output_per_step else ''}{i.name.upper()}_OUTPUT_SIZE]",
        "CONSTANTS": _constants(i),
        "INCLUDES": "#include <math.h> /* INFINITY */\n\n"
        if any(abs(v.first) == float("inf") for v in i.initial)
        else "",
        "INPUT_PER_STEP": str(int(i.input_per_step)),
        "OUTPUT_PER_STEP": str(int(i.output_per_step)),
        "ARENA_MAGIC": _magic(i, "arena"),
        "STATE_MAGIC": _magic(i, "state"),
        "PARAMS_BYTES": str(i.params_bytes),
        "NEURON_BYTES": str(i.neuron_bytes),
        "FRAME_OFFSET": str(i.frame_offset),
        "INITIAL": _table(
            "initial_value initial_values",
            i.initial,
            lambda v: f"{v.offset}u, {v.count}u, {c_float(v.first)}",
            "0u, 0u, 0.0f",
        ),
        "KEPT": _table(
            "kept_spikes kept_layers", i.neurons, lambda s: f"{s.offset}u, {s.halo}, {s.pixel_bytes}", "0u, 0, 0"
        ),
        "DESCRIPTION": _description(i),
        "CPU_CHECK": check.code,
        "FEATURES": check.features,
    }


def _comment(text: str) -> str:
    """ASCII text that cannot end a comment."""
    return text.replace("*/", "* /").replace("\n", " ").replace("×", "x").encode("ascii", "replace").decode()


def _input_time(i: Interface) -> str:
    if i.input_per_step:
        return ""
    return (
        f" * The network takes one input for all steps: what does not change with time is computed once per call, and\n"
        f" * one call of {i.name}_run is quicker than T calls of {i.name}_step.\n"
    )


def _output_text(i: Interface) -> str:
    if i.output_per_step:
        return f"{i.output_size} values for each step."
    return f"{i.output_size} values, the readout over the steps since the reset."


def _constants(i: Interface) -> str:
    channels, height, width = i.input_shape
    name = i.name.upper()
    values = {
        "ALIGNMENT": (ALIGNMENT, "of arena and state"),
        "ARENA_BYTES": (i.arena_bytes, ""),
        "STATE_BYTES": (i.state_bytes, ""),
        "INPUT_CHANNELS": (channels, ""),
        "INPUT_HEIGHT": (height, ""),
        "INPUT_WIDTH": (width, ""),
        "INPUT_SIZE": (channels * height * width, "floats of one step"),
        "SPIKE_BYTES": (-(-channels // 8), "of one pixel of packed spikes"),
        "OUTPUT_SIZE": (i.output_size, "floats of one output"),
        "NUM_STEPS": (i.num_steps, "T that the network was built for"),
        "MAX_STEPS": (i.max_steps, "steps that are computed at a time; a call may have more"),
        "STEP_US": (STEP_US, "microseconds of a window of events, unless events_begin says otherwise"),
    }
    lines = [
        f"#define {name}_{key} {value}" + (f" /* {note} */" if note else "") for key, (value, note) in values.items()
    ]
    aligned = f"#define {name}_ALIGNED"
    return "\n".join(
        [
            *lines,
            "",
            "/* In front of the declaration of an array: begins at a multiple of the alignment. */",
            "#if defined(__cplusplus)",
            f"{aligned} alignas({name}_ALIGNMENT)",
            "#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L",
            f"{aligned} _Alignas({name}_ALIGNMENT)",
            "#else /* GCC, Clang, armcc */",
            f"{aligned} __attribute__((aligned({name}_ALIGNMENT)))",
            "#endif",
            "",
        ]
    )


def _magic(i: Interface, what: str) -> str:
    """A number that other networks, and other builds of this one with other sizes, do not have."""
    return f"{zlib.crc32(f'{what} {i}'.encode()):#010x}u"


def _table(declaration: str, rows: Sequence[T], row: Callable[[T], str], empty: str) -> str:
    """A static table; one row of `empty` where there is none, since C has no empty arrays."""
    body = "".join(f"    {{{text}}},\n" for text in (map(row, rows) if rows else [empty]))
    return f"static const {declaration}[] = {{\n{body}}};\n"


def _description(i: Interface) -> str:
    n, (channels, height, width) = i.name, i.input_shape
    layers = _table(
        f"{n}_layer layers",
        i.layers,
        lambda w: f"{', '.join(map(c_string, (w.name, w.kind, w.pattern, w.kernel)))}, {w.weights}, {w.nonzeros}",
        "0",
    )
    neurons = _table(
        f"{n}_neurons neuron_layers",
        i.neurons,
        lambda s: f"{c_string(s.name)}, {s.channels}, {s.height}, {s.width}",
        "0",
    )
    fields = [
        *map(c_string, (i.title, i.target, i.pattern)),
        *(
            i.num_steps,
            channels,
            height,
            width,
            int(i.input_per_step),
            i.output_size,
            int(i.output_per_step),
            i.max_steps,
        ),
        *(
            f"{n.upper()}_ARENA_BYTES",
            f"{n.upper()}_STATE_BYTES",
            len(i.layers),
            "layers",
            len(i.neurons),
            "neuron_layers",
        ),
    ]
    body = "".join(f"    {field},\n" for field in fields)
    return f"{layers}\n{neurons}\nstatic const {n}_description description = {{\n{body}}};\n"
