import torch
from torch import Tensor, nn

from spikenm_compile.learning import MaskOptions, attach_mask, fold_masks
from spikenm_compile.learning.learners.spre import SpRe, short_taps
from spikenm_compile.pattern import Pattern


def masked(layer: nn.Module) -> SpRe:
    mask = attach_mask(layer, Pattern(2, 4), MaskOptions(learner="spre"), "layer")
    assert isinstance(mask, SpRe)
    return mask


def convolution() -> tuple[nn.Conv2d, SpRe, Tensor]:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 6, 3, padding=1)
    return conv, masked(conv), (torch.rand(5, 8, 7, 7) < 0.3).float()


def test_the_second_weight_has_the_taps_that_the_pattern_leaves_short() -> None:
    weight = torch.tensor([[5.0, 1.0], [6.0, 2.0], [7.0, 3.0], [4.0, 8.0]]).view(1, 4, 2)
    assert short_taps(weight, Pattern(2, 4)).tolist() == [1.0, 0.0]  # the 4 largest: 5, 6, 7 at tap 0 and 8 at tap 1
    assert short_taps(torch.ones(2, 4), Pattern(2, 4)).item() == 0.0


def test_training_adds_two_convolutions_under_one_mask() -> None:
    conv, mask, x = convolution()
    h = mask.harden(conv.weight.detach())
    first = torch.conv2d(x, h * conv.weight, conv.bias, padding=1)
    second = torch.conv2d(x, h * mask.taps * mask.second, padding=1)
    a, b = (y.var((0, 2, 3), correction=0) + 1e-5 for y in (first, second))
    expected = first + ((a / b).sqrt()).view(-1, 1, 1) * second
    torch.testing.assert_close(conv(x), expected)
    assert 0 < mask.taps.sum() < 9


def test_under_batch_norm_training_is_that_of_two_batch_norms() -> None:
    conv, mask, x = convolution()
    with torch.no_grad():
        actual = nn.BatchNorm2d(6)(conv(x))
        h = mask.harden(conv.weight)
        branches = (torch.conv2d(x, h * w, padding=1) for w in (conv.weight, mask.taps * mask.second))
        expected = nn.BatchNorm2d(6)(sum(nn.BatchNorm2d(6)(y) for y in branches))
    torch.testing.assert_close(actual, expected, atol=2e-3, rtol=2e-3)  # the ε of three batch norms instead of one


def test_evaluation_uses_running_spreads_and_folds_into_one_weight() -> None:
    conv, mask, x = convolution()
    for _ in range(200):
        conv(x)
    seen = conv(x)
    conv.eval()
    torch.testing.assert_close(conv(x), seen)  # the running spreads have reached those of the batch
    first = mask.harden(conv.weight) * conv.weight
    fold_masks(conv)
    assert not torch.equal(conv.weight, first)


def test_the_second_weight_learns_where_the_mask_keeps() -> None:
    conv, mask, x = convolution()
    conv(x).square().sum().backward()
    assert mask.second.grad is not None
    assert mask.gain.grad is not None
    used = mask.harden(conv.weight.detach()) * mask.taps
    assert torch.equal(mask.second.grad != 0, used != 0)
    assert mask.gain.grad.all()
    scale = float(
        (mask.second.grad * mask.second.detach()).sum() / mask.second.grad.norm() / mask.second.detach().norm()
    )
    assert abs(scale) < 1e-3  # its length does not matter, as under a batch norm


def test_an_unbatched_input_and_a_linear_layer() -> None:
    conv, _, x = convolution()
    torch.testing.assert_close(conv(x[0]), conv(x[:1])[0])
    linear = nn.Linear(8, 4)
    mask = masked(linear)
    plain = torch.nn.functional.linear(x[0, :, 0].T, linear.weight * mask.harden(linear.weight), linear.bias)
    assert torch.equal(linear(x[0, :, 0].T), plain)
