"""The choice under a budget, against all choices there are."""

from __future__ import annotations

import itertools
import random

import pytest

from spikenm_compile.errors import InputError
from spikenm_compile.learning import budget as module
from spikenm_compile.learning.budget import Option, choose_options
from spikenm_compile.pattern import Pattern

Options = dict[str, list[Option]]
PATTERNS = (None, Pattern(2, 4), Pattern(1, 4), Pattern(1, 8))


def random_options(seed: int, whole: bool) -> Options:
    """Four layers with two to four options; `whole` costs and losses make ties."""
    rng = random.Random(seed)

    def number() -> float:
        return float(rng.randint(1, 6)) if whole else rng.random()

    return {f"layer{i}": [Option(p, number(), number()) for p in PATTERNS[: rng.randint(2, 4)]] for i in range(4)}


def best_of_all(options: Options, budget: float) -> tuple[float, float]:
    """Smallest (loss, cost)."""
    sums = ((sum(o.loss for o in c), sum(o.cost for o in c)) for c in itertools.product(*options.values()))
    return min((loss, cost) for loss, cost in sums if cost <= budget + 1e-9)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_best_of_all_choices(seed: int, whole: bool) -> None:
    options = random_options(seed, whole)
    least = sum(min(o.cost for o in of_layer) for of_layer in options.values())
    for factor in (1.0, 1.2, 1.7, 5.0):
        chosen = choose_options(options, factor * least)
        assert list(chosen) == list(options)
        assert all(chosen[layer] in options[layer] for layer in options)
        found = sum(o.loss for o in chosen.values()), sum(o.cost for o in chosen.values())
        assert found == pytest.approx(best_of_all(options, factor * least))


def test_a_budget_that_fits_exactly_is_used_in_spite_of_rounding() -> None:
    options = {str(i): [Option(None, 0.0, 0.1), Option(Pattern(1, 4), 1.0, 0.0)] for i in range(10)}
    assert sum([0.1] * 3) > 0.3
    assert sum(o.pattern is None for o in choose_options(options, 0.3).values()) == 3


def test_equal_choices_go_to_the_same_one_each_time() -> None:
    same = [Option(Pattern(2, 4), 1.0, 1.0), Option(Pattern(2, 8), 1.0, 1.0)]
    assert choose_options({"a": same, "b": same}, 2.0) == {"a": same[0], "b": same[0]}


def test_a_thinned_front_holds_the_budget_and_comes_close(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    options = {
        str(i): [Option(None, 0.0, c := rng.random()), Option(Pattern(1, 2), rng.random(), c / 2)] for i in range(14)
    }
    budget = 0.7 * sum(o[0].cost for o in options.values())
    exact = sum(o.loss for o in choose_options(options, budget).values())
    monkeypatch.setattr(module, "LARGEST_FRONT", 64)
    chosen = choose_options(options, budget).values()
    assert sum(o.cost for o in chosen) <= budget
    assert exact <= sum(o.loss for o in chosen) < 1.1 * exact


def test_an_impossible_budget_is_told_the_smallest() -> None:
    options = {"a": [Option(None, 0.0, 4.0), Option(Pattern(1, 4), 1.0, 1.0)], "b": [Option(None, 0.0, 2.0)]}
    with pytest.raises(InputError, match=r"budget of 2\.5 is impossible: the smallest that these patterns allow is 3;"):
        choose_options(options, 2.5)
