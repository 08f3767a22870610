import copy
import io
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikenm_compile.errors import PatternError
from spikenm_compile.learning import MaskOptions, Schedule, attach_mask, fold_masks
from spikenm_compile.learning.learners.phase import PhaseMask
from spikenm_compile.pattern import Pattern
from spikenm_compile.phases import Phases, find_phases, staggered_phases

STEPS = 20


def masked(pattern: str = "1:8", **schedule: float) -> tuple[nn.Conv2d, PhaseMask]:
    torch.manual_seed(0)
    n_m = Pattern.parse(pattern)
    conv = nn.Conv2d(2 * n_m.m, 12, 3)
    options = MaskOptions(Schedule(STEPS, **schedule), learner="phase")  # type: ignore[arg-type]
    mask = attach_mask(conv, n_m, options, "layer")
    assert isinstance(mask, PhaseMask)
    return conv, mask


def masks(conv: nn.Conv2d, mask: PhaseMask) -> list[Tensor]:
    return [mask.sample(conv.weight, step) for step in range(STEPS)]


@pytest.mark.parametrize("pattern", ["1:8", "2:8", "2:4", "1:12", "4:12"])
def test_the_number_kept_falls_by_divisors_and_masks_lie_inside_one_another(pattern: str) -> None:
    conv, mask = masked(pattern, progressive=0.6)
    n, m = mask.pattern.n, mask.pattern.m
    drawn = masks(conv, mask)
    kept = [int(mask.pattern.groups(h).sum(-1).max()) for h in drawn]
    assert kept == sorted(kept, reverse=True)
    assert (kept[0], kept[-1]) == (m, n)
    assert all(m % k == 0 and k % n == 0 for k in kept)
    inside = [float((b * (1 - a)).sum()) == 0 for a, b in pairwise(drawn)]
    assert all(inside) or pattern == "1:12"  # from 3 of 12 to 2 of 12 classes do not split


def test_phases_keep_more_of_the_weight_than_fixed_ones_and_are_found_again() -> None:
    conv, mask = masked()
    final = masks(conv, mask)[-1]
    squares = conv.weight.detach().square()
    fixed = torch.from_numpy(staggered_phases((12, 16, 3, 3), Pattern(1, 8)).mask_of((12, 16, 3, 3)).copy())
    assert (final * squares).sum() > 1.2 * (fixed * squares).sum()
    fold_masks(conv)
    assert isinstance(conv.nm_phases, Phases)
    assert np.array_equal(conv.nm_phases.mask_of(conv.weight.shape), final.numpy())
    found = find_phases(conv.weight.detach().numpy(), Pattern(1, 8))
    assert found is not None
    assert np.array_equal(found.mask_of(conv.weight.shape), final.numpy())


def test_a_training_that_is_folded_early_is_projected() -> None:
    conv, mask = masked()
    conv.eval()
    with torch.inference_mode():
        evaluated = mask(conv.weight).clone()
    linear = nn.Linear(16, 8)
    attach_mask(linear, Pattern(2, 8), MaskOptions(learner="phase"))
    fold_masks(nn.ModuleList([conv, linear]))
    assert torch.equal(conv.weight, evaluated)
    for layer, pattern in ((conv, Pattern(1, 8)), (linear, Pattern(2, 8))):
        assert isinstance(layer.nm_phases, Phases)
        expected = layer.nm_phases.mask_of(layer.weight.shape)
        assert np.array_equal(layer.weight.detach().numpy() != 0, expected)
        assert find_phases(layer.weight.detach().numpy(), pattern) is not None


def test_evaluation_seeks_once_until_the_weight_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    conv, mask = masked()
    sought: list[Pattern] = []
    seek = mask._sought

    def counted(weight: Tensor, pattern: Pattern) -> Phases:
        sought.append(pattern)
        return seek(weight, pattern)

    monkeypatch.setattr(mask, "_sought", counted)
    conv.eval()
    first = mask(conv.weight)
    assert torch.equal(mask(conv.weight), first)
    assert len(sought) == 1
    with torch.no_grad():
        conv.weight.copy_(conv.weight.flip(0))
    assert not torch.equal(mask(conv.weight), first)
    assert len(sought) == 2


@pytest.mark.parametrize("how", ["checkpoint", "copy", "pickle"])
def test_phases_travel(how: str) -> None:
    conv, mask = masked()
    final = masks(conv, mask)[-1]
    mask.step.fill_(STEPS - 1)
    if how == "checkpoint":
        other = masked()[0]
        file = io.BytesIO()
        torch.save(conv.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file))
    else:
        other = copy.deepcopy(conv) if how == "copy" else pickle.loads(pickle.dumps(conv))
    with torch.no_grad():
        other.weight.normal_()
    assert torch.equal(other.get_submodule("mask")(other.weight) != 0, final.bool())


@pytest.mark.parametrize("pattern", ["3:8", "4:2:8"])
def test_patterns_without_phases_are_refused(pattern: str) -> None:
    with pytest.raises(PatternError, match=f"phases of pattern {pattern} cannot be learned; N must divide M"):
        masked(pattern)
