"""Working part by part, and bits for masks, change nothing."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from spikenm_compile.learning import MaskOptions, Schedule, attach_mask, parts
from spikenm_compile.learning.bits import pack, unpack
from spikenm_compile.learning.options import Relaxation
from spikenm_compile.learning.sampling import gumbel, hard_mask
from spikenm_compile.pattern import Pattern

SHAPES = [(10, 16, 3, 3), (7, 16), (6, 8, 3), (4, 8, 2, 2, 2)]


@pytest.fixture(params=[2, 150])
def small_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Parts of one row, and parts of some rows with a smaller last one."""
    monkeypatch.setattr(parts, "PART", request.param)
    return request.param  # type: ignore[no-any-return]


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("text", ["2:4", "1:8", "3:8"])
def test_the_mask_of_parts_is_the_top_of_all_groups(shape: tuple[int, ...], text: str) -> None:
    pattern, scores = Pattern.parse(text), randn(*shape).round(decimals=1)  # some ties
    before = scores.clone()
    expected = pattern.ungroup(pattern.top_n(pattern.groups(scores)))
    assert torch.equal(hard_mask(scores, pattern), expected)
    assert torch.equal(scores, before)
    turned = scores.movedim(1, -1).contiguous().movedim(-1, 1)  # channels last
    assert torch.equal(hard_mask(turned, pattern), expected)


def test_parts_are_views_of_all_rows() -> None:
    values = torch.zeros(10, 16, 3, 3)
    for a, b in parts.parts(values, torch.ones_like(values)):
        a += b
    assert values.eq(1.0).all()
    assert len(list(parts.parts(torch.zeros(10 * torch.get_num_threads(), parts.PART // 2)))) == 5


def test_noise_is_that_of_one_whole_draw(small_parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    like = torch.zeros(7, 9)
    drawn = gumbel(like, "key")
    monkeypatch.setattr(parts, "PART", 2**16)
    assert torch.equal(gumbel(like, "key"), drawn), small_parts
    assert drawn.isfinite().all()


@pytest.mark.parametrize("relaxation", ["none", "softmax", "simple"])
@pytest.mark.parametrize("text", ["2:4", "2:2:8"])
def test_the_gradient_of_parts_is_that_of_the_whole(
    relaxation: Relaxation, text: str, small_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_parts = finished(relaxation, text)
    monkeypatch.setattr(parts, "PART", 2**16)
    for small, large in zip(in_parts, finished(relaxation, text), strict=True):
        torch.testing.assert_close(small, large), small_parts


def finished(relaxation: Relaxation, text: str) -> list[Tensor]:
    """(gradient of the logits, credit) after a step."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(16, 6, 3, padding=1)
    options = MaskOptions(Schedule(noise=0.5, eid=0.2), relaxation=relaxation)
    learner = attach_mask(convolution, Pattern.parse(text), options, "conv")
    convolution(randn(2, 16, 4, 4)).square().sum().backward()
    learner.prepare_step(convolution.weight)
    gradient = learner.get_parameter("logits").grad
    assert gradient is not None
    return [gradient, learner.get_buffer("credit")]


@pytest.mark.parametrize("shape", [*SHAPES, (3, 5), (1,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_bits_give_the_mask_back(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    mask = (randn(*shape) > 0).to(dtype)
    packed = pack(mask)
    assert packed.nbytes == -(-mask.numel() // 8)
    assert unpack(packed, mask).dtype is dtype
    assert torch.equal(unpack(packed, mask), mask)


def test_between_forward_passes_a_mask_is_one_bit_for_each_weight() -> None:
    linear = nn.Linear(64, 32)
    learner = attach_mask(linear, Pattern(2, 4), MaskOptions(Schedule(noise=1.0)))
    kept = [learner(torch.ones(32, 64, requires_grad=True)).detach() for _ in range(1)]
    assert learner._sample is not None
    assert learner._sample[1].nbytes == 32 * 64 // 8
    first, second = learner(linear.weight).detach(), learner(linear.weight).detach()
    assert torch.equal(first, second)
    assert torch.equal(first, linear.weight.detach() * kept[0])
