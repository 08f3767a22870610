"""The calls of a native program without layers of two kernels."""

from __future__ import annotations

from spikenm_compile.graph import Region
from spikenm_compile.lowering.program import Call, Program


def plain_calls(program: Program, region: Region) -> list[Call]:
    calls = [call for call in program.calls[region] if isinstance(call, Call)]
    assert len(calls) == len(program.calls[region])
    return calls
