"""The four C functions of a native program."""

from __future__ import annotations

from pathlib import Path

import pytest
from native_calls import plain_calls
from torch.fx import GraphModule
from tvm import tirx

from spikenm_compile.graph import Region
from spikenm_compile.lowering.entry import ENTRY_OF, build_entries, build_objects
from spikenm_compile.lowering.native import plan
from spikenm_compile.lowering.program import ALIGNMENT, Program, Space
from spikenm_compile.targets.cpu import X86_64_V3


@pytest.fixture
def program(lowered: GraphModule) -> Program:
    return plan(lowered, X86_64_V3.tile_width, 3)


def entries(program: Program) -> dict[str, tirx.PrimFunc]:
    return {str(f.attrs["global_symbol"]): f for f in build_entries(program)}


def test_names_and_signatures(program: Program) -> None:
    functions = entries(program)
    assert list(functions) == ["spikenm_prepare", "spikenm_before", "spikenm_steps", "spikenm_after"]
    arguments = ["params", "input", "state", "arena", "output", "num_steps"]
    for name, function in functions.items():
        expected = ["packed", "params"] if name == "spikenm_prepare" else arguments
        assert [str(p.name) for p in function.params] == expected
        assert int(function.attrs["calling_conv"]) == 2
        assert "int32" in str(function.ret_type)


@pytest.mark.parametrize("region", Region)
def test_an_entry_calls_the_kernels_of_its_region_in_order(program: Program, region: Region) -> None:
    text = entries(program)[f"spikenm_{ENTRY_OF[region]}"].script()
    called = [call.function for call in plain_calls(program, region)]
    assert called
    positions = [text.index(f'"{name}"') for name in called]
    assert positions == sorted(positions)
    assert text.count("call_extern") == len(called)


def test_preparation_unpacks_every_layer_and_copies_scales_and_biases(program: Program) -> None:
    text = entries(program)["spikenm_prepare"].script()
    assert text.count("call_extern") == len(program.prepare) == 3
    assert len(program.copies) == 6


def test_buffers_of_a_memory_do_not_overlap_and_start_at_cache_lines(program: Program) -> None:
    packed = sorted((part["offset"], part["bytes"]) for part in program.packed)
    for (offset, size), (following, _) in zip(packed, [*packed[1:], (program.sizes[Space.PACKED], 0)], strict=True):
        assert offset % ALIGNMENT == 0
        assert offset + size <= following
    states = sorted(state["offset"] for state in program.states)
    assert len(set(states)) == len(states) == 3
    assert all(offset % ALIGNMENT == 0 for offset in states)
    assert all(size % ALIGNMENT == 0 for size in program.sizes.values())


def test_kernels_and_entries_are_two_objects(program: Program, tmp_path: Path) -> None:
    kernels, objects, assembly = build_objects(program, X86_64_V3.tvm_target, tmp_path)
    assert kernels.read_bytes()[:4] == objects.read_bytes()[:4] == b"\x7fELF"
    assert all(str(f.attrs["global_symbol"]) in assembly for f in program.functions)
    assert "spikenm_steps" not in assembly
    assert b"spikenm_steps" in objects.read_bytes()
