import dataclasses
from itertools import pairwise

import pytest

from spikenm_compile.errors import InputError
from spikenm_compile.training.learning_rate import lr_factor
from spikenm_compile.training.settings import FREE, Settings


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epochs": 0}, "epochs=0 is not a setting of a training; epochs is a whole number of at least 1"),
        ({"epochs": 1.5}, r"epochs=1\.5 is not"),
        ({"lr": -1.0}, r"lr is a number of at least 0"),
        ({"lr": float("nan")}, "lr=nan is not"),
        ({"label_smoothing": 1.0}, r"label_smoothing is a number in \[0, 1\)"),
        ({"precision": "float16"}, "precision is one of float32, bfloat16"),
        ({"memory": "less"}, "memory is one of none"),
        ({"accumulate": 3}, "a batch of 64 does not split into 3 equal parts"),
        ({"optimizer": "adamw"}, "'adamw' is not an optimiser that this training can use; .* as AdamW"),
        ({"optimizer": "LBFGS"}, "'LBFGS' is not an optimiser"),
        ({"optimizer": "Optimizer"}, "'Optimizer' is not an optimiser"),
        ({"optimizer_options": {"momentum": 0.9}}, r"'momentum' is not an option of torch.optim.AdamW .*betas"),
        ({"optimizer_options": {"lr": 0.9}}, "'lr' is not an option"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Settings(**change)  # type: ignore[arg-type]


def test_steps_are_whole_batches() -> None:
    assert Settings(epochs=3, batch_size=10).total_steps(29) == 6
    with pytest.raises(InputError, match="9 images × 3 epochs make no batch"):
        Settings(epochs=3, batch_size=10).total_steps(9)


def test_free_settings_are_settings_and_the_others_decide_the_result() -> None:
    names = {f.name for f in dataclasses.fields(Settings)}
    assert names > FREE
    assert Settings().fixed().keys() == names - FREE


def test_the_learning_rate_rises_and_falls() -> None:
    settings = Settings(warmup=4)
    rates = [lr_factor(settings, step, 20) for step in range(21)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[12] == pytest.approx(0.5)
    assert rates[20] == pytest.approx(0.0)
    assert all(a > b for a, b in pairwise(rates[4:]))
    assert lr_factor(Settings(lr_schedule="constant"), 19, 20) == 1.0
