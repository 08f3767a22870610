"""An arena whose buffers share memory: never two that live at the same time."""

from __future__ import annotations

import pytest
from edge_networks import NETWORKS
from native_calls import plain_calls
from torch.fx import GraphModule

from spikenm_compile.graph import Region
from spikenm_compile.lowering.native import plan
from spikenm_compile.lowering.program import ALIGNMENT, Program, Space
from spikenm_compile.lowering.share_arena import Lifetime, share_arena
from spikenm_compile.targets.cpu import detect

INPUT_BYTES = 4 * 2 * 9 * 9


@pytest.fixture(scope="module")
def apart() -> Program:
    program = plan(NETWORKS["gestures"]()[0], 16, 5)
    program.add_frame(INPUT_BYTES)
    return program


def offsets(program: Program) -> list[tuple[int, ...]]:
    """Places in the arena of each call that is no clearing."""
    calls = [call for region in Region for call in plain_calls(program, region) if not call.function.endswith("_clear")]
    return [tuple(place.offset for place in call.places if place.space is Space.ARENA) for call in calls]


def test_lifetimes_meet_where_one_call_needs_both() -> None:
    assert Lifetime(1, 3).meets(Lifetime(3, 5))
    assert Lifetime(3, 5).meets(Lifetime(1, 3))
    assert not Lifetime(1, 2).meets(Lifetime(3, 5))


def test_buffers_that_live_at_the_same_time_lie_apart(apart: Program) -> None:
    shared = share_arena(apart, frozenset({"lif4"}))
    pairs = list(zip(apart.buffers, shared.buffers, strict=True))
    calls = offsets(apart)
    lives = dict[int, tuple[int, int]]()
    for number, used in enumerate(calls):
        for offset in used:
            first, _ = lives.get(offset, (number, number))
            lives[offset] = first, number
    for before, after in pairs:
        assert after.offset % ALIGNMENT == 0
        assert after.offset + after.num_bytes <= shared.sizes[Space.ARENA]
        for other, moved in pairs:
            if before is other or before.offset not in lives or other.offset not in lives:
                continue
            (a, b), (c, d) = lives[before.offset], lives[other.offset]
            if a <= d and c <= b:
                ends = after.offset + after.num_bytes <= moved.offset or moved.offset + moved.num_bytes <= after.offset
                assert ends, (before, other)


def test_the_same_calls_on_less_memory(apart: Program) -> None:
    shared = share_arena(apart, frozenset({"lif4"}))
    assert shared.sizes[Space.ARENA] < 0.6 * apart.sizes[Space.ARENA]
    assert shared.sizes[Space.STATE] == apart.sizes[Space.STATE]
    moved = {before.offset: after.offset for before, after in zip(apart.buffers, shared.buffers, strict=True)}
    assert offsets(shared) == [tuple(moved[o] for o in used) for used in offsets(apart)]
    assert [s["layer"] for s in shared.spikes] == ["lif4"]


def test_only_what_has_gaps_is_cleared_and_only_where_it_is_made(apart: Program) -> None:
    shared = share_arena(apart, frozenset())
    clears = [call for call in plain_calls(shared, Region.STEP) if call.function.endswith("_clear")]
    with_gaps = [buffer for buffer in apart.buffers if buffer.zero_bytes]
    assert len(clears) == len(with_gaps) > 0
    names = [call.function for call in plain_calls(shared, Region.STEP)]
    for call in clears:
        following = shared.calls[Region.STEP][names.index(call.function) + 1 :]
        assert any(call.places[0] in later.places for later in following)
    assert len({f.attrs["global_symbol"] for f in shared.functions}) == len(shared.functions)


def test_what_is_computed_once_outlives_all_steps() -> None:
    lowered: GraphModule = NETWORKS["digits"]()[0]
    program = plan(lowered, 16, 4, instructions=detect().instructions)
    program.add_frame(4 * 64)
    shared = share_arena(program, frozenset())
    once = {p.offset for call in shared.calls[Region.BEFORE] for p in call.places if p.space is Space.ARENA}
    read = {p.offset for call in shared.calls[Region.STEP] for p in call.places if p.space is Space.ARENA}
    kept = [b for b in shared.buffers if b.offset in once & read and b.num_bytes == 4 * 8 * 8 * 16]
    assert kept
    end = kept[0].offset + kept[0].num_bytes
    others = [
        b for b in shared.buffers if b is not kept[0] and b.offset < end and kept[0].offset < b.offset + b.num_bytes
    ]
    # only what lives before the steps may have been there
    assert all(b.offset not in read or b.offset in once for b in others)
