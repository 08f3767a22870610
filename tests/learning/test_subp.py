from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from spikenm_compile.learning import MaskOptions, Schedule, attach_mask, fold_masks
from spikenm_compile.learning.learners.subp import SUBP, block_scores
from spikenm_compile.pattern import Pattern

STEPS = 40


def masked(pattern: str = "4:2:8", **schedule: float) -> tuple[nn.Conv2d, SUBP]:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 8, 3)
    options = MaskOptions(Schedule(STEPS, **schedule), learner="subp")  # type: ignore[arg-type]
    mask = attach_mask(conv, Pattern.parse(pattern), options, "layer")
    assert isinstance(mask, SUBP)
    return conv, mask


def masks(conv: nn.Conv2d, mask: SUBP, steps: range) -> list[Tensor]:
    drawn = []
    for step in steps:
        drawn.append(mask.sample(conv.weight, step))
        assert torch.equal(mask.sample(conv.weight, step), drawn[-1])
    return drawn


def test_scores_by_hand() -> None:
    blocks = torch.tensor([[[3.0, 0.0], [4.0, 0.0], [0.0, 1.0], [0.0, 2.0]]])
    kept = torch.tensor([[True, True, True, False]])
    # alike: 2, 2, 1, 0 of 5; a pruned block has share 1 of redundancy
    expected = torch.tensor([[0.3 - 0.4, 0.4 - 0.4, 0.1 - 0.2, 0.2 - 1.0]])
    torch.testing.assert_close(block_scores(blocks, kept), expected)


def test_blocks_are_whole_and_as_many_in_every_group() -> None:
    conv, mask = masked()
    for step, drawn in enumerate(masks(conv, mask, range(STEPS))):
        assert torch.equal(drawn, drawn[:, :, :1, :1].expand_as(drawn))
        assert torch.equal(drawn.view(2, 4, 16, 3, 3), drawn[::4, None].expand(2, 4, 16, 3, 3))
        pattern = mask.pattern_at(step)
        assert mask.pattern.groups(drawn).sum(-1).eq(8 if pattern is None else pattern.n).all()


def test_fewer_and_fewer_blocks_grow_back_until_the_tail() -> None:
    conv, mask = masked(tail=0.25)
    shares = [float(m.mean()) for m in masks(conv, mask, range(STEPS))]
    assert shares[0] == 1.0
    assert shares == sorted(shares, reverse=True)
    assert 0.3 < shares[8] < 0.9
    assert set(shares[30:]) == {0.25}


def test_what_grows_back_is_drawn_anew_and_the_tail_stands_still() -> None:
    conv, mask = masked(tail=0.25)
    drawn = masks(conv, mask, range(STEPS))
    late = [m for m in drawn if m.mean() == 3 / 8]
    assert any(not torch.equal(a, b) for a, b in pairwise(late))
    with torch.no_grad():
        conv.weight.copy_(conv.weight.flip(1))
    assert torch.equal(mask.sample(conv.weight, STEPS - 1), drawn[-1])
    assert torch.equal(mask.harden(conv.weight), drawn[-1])
    fold_masks(conv)
    assert torch.equal(conv.weight != 0, drawn[-1].bool())


def test_the_best_blocks_never_leave() -> None:
    conv, mask = masked()
    with torch.no_grad():
        conv.weight[:, 3] += 5.0 * torch.randn(8, 3, 3)
    assert all(m[:, 3].all() for m in masks(conv, mask, range(STEPS)))


def test_the_schedule_of_the_ramp_can_be_given() -> None:
    conv, mask = masked(progressive=0.2, start_density=0.5)
    shares = [float(m.mean()) for m in masks(conv, mask, range(STEPS))]
    assert (shares[0], shares[8]) == (0.5, 0.25)


def test_a_training_of_unknown_length_is_dense_until_fold() -> None:
    linear = nn.Linear(8, 4)
    mask = attach_mask(linear, Pattern(2, 4), MaskOptions(learner="subp"))
    assert mask.sample(linear.weight, 10**6).all()
    assert "until fold" in mask.describe(mask.options)
    fold_masks(linear)
    assert Pattern(2, 4).holds(linear.weight.detach())


@pytest.mark.parametrize("step", [0, 7])
def test_blocks_are_a_function_of_seed_layer_and_step(step: int) -> None:
    (one, first), (two, second) = masked(), masked()
    assert torch.equal(masks(one, first, range(step + 1))[-1], masks(two, second, range(step + 1))[-1])
