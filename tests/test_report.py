from __future__ import annotations

from dataclasses import replace

from spikenm_compile.artifact.manifest import InputSpec, LayerReport, Manifest, OutputSpec
from spikenm_compile.report.layers import format_layers, format_manifest
from spikenm_compile.report.table import format_table

SPARSE = LayerReport(
    name="conv",
    kind="conv",
    shape=(8, 4, 3, 3),
    pattern="2:4",
    nonzeros=144,
    weights=288,
    bytes_packed=200,
    bytes_dense=1000,
    kernel="event-rows",
    why="input is spikes",
)
DENSE = replace(SPARSE, name="fc", kind="linear", pattern=None, bytes_packed=300, kernel="dense-rows", why="no groups")
MANIFEST = Manifest(
    producer="spikenm_compile 1",
    name="net",
    target="native",
    pattern="2:4",
    num_steps=4,
    input=InputSpec((2, 8, 8), per_step=True, levels="0..1"),
    output=OutputSpec((10,), per_step=False),
    layers=(SPARSE, DENSE),
    code={"kind": "native"},
    files={"b": "", "a": ""},
)


def test_numbers_are_aligned_right_and_text_left() -> None:
    assert format_table(("name", "count"), [("a", 1), ("longer", 200)]).splitlines() == [
        "name    count",
        "------  -----",
        "a           1",
        "longer    200",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert format_table(("a", "bcd"), []) == "a  bcd\n-  ---"


def test_no_line_ends_in_blanks() -> None:
    table = format_table(("name", "why"), [("a", ""), ("b", "because")])
    assert all(line == line.rstrip() for line in table.splitlines())


def test_layers_show_pattern_kernel_reason_and_sums() -> None:
    lines = format_layers([SPARSE, DENSE]).splitlines()
    assert lines[2].split() == [
        *("conv", "conv", "8×4×3×3", "2:4", "144", "200", "1000", "event-rows"),
        *("input", "is", "spikes"),
    ]
    assert lines[3].split()[3] == "dense"
    assert lines[4] == "1 of 2 layers sparse; 500 bytes packed, 4.0× below float32"


def test_what_was_measured_of_some_layer_has_a_column() -> None:
    header, _, first, second, _ = format_layers([replace(SPARSE, density=0.1234), DENSE]).splitlines()
    at = header.index("active")
    assert header.split()[-3:] == ["active", "kernel", "why"]
    assert first[at:].split()[:3] == ["12.3", "%", "event-rows"]
    assert second[at:].split()[:2] == ["-", "dense-rows"]


def test_times_and_what_would_save_some() -> None:
    known = replace(SPARSE, microseconds=12.345, savings="1:8@stagger here would save 41 %")
    lines = format_layers([known, DENSE]).splitlines()
    assert lines[0].split()[-3:] == ["µs", "kernel", "why"]
    assert "12.3" in lines[2].split()
    assert lines[-1] == "conv: 1:8@stagger here would save 41 % of its time"


def test_a_network_without_weights_has_no_ratio() -> None:
    assert format_layers([]).splitlines()[-1] == "0 of 0 layers sparse; 0 bytes packed"


def test_a_manifest_says_what_it_takes_and_gives() -> None:
    lines = format_manifest(MANIFEST).splitlines()
    assert lines[0] == "net: [2, 8, 8] -> [10], T=4, another input at each step, input as 0..1"
    assert lines[1] == "target native, pattern 2:4, built by spikenm_compile 1"
    assert lines[-1] == "files: a, b"


def test_a_manifest_of_a_static_input_without_pattern() -> None:
    still = replace(MANIFEST, input=InputSpec((3,), per_step=False, levels="0..1"), pattern=None)
    lines = format_manifest(still).splitlines()
    assert "the same input at each step" in lines[0]
    assert "pattern none" in lines[1]
