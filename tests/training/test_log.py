import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from training_runs import masked_net, same_state, samples, tiny_run

from spikenm_compile.errors import InputError, ToolError
from spikenm_compile.learning import masked_layers
from spikenm_compile.learning.learners.spikenm import SpikeNM
from spikenm_compile.training.curves import draw_curves
from spikenm_compile.training.mask_watch import entropy, kept_weights, share_lost
from spikenm_compile.training.metrics import NAME, read_metrics
from spikenm_compile.training.settings import Settings
from spikenm_compile.training.trainer import run_training

SETTINGS = Settings(epochs=4, batch_size=8, log_every=6, lr=0.05)
"""20 steps, 5 in an epoch."""


def trained(run_dir: Path, settings: Settings = SETTINGS) -> None:
    run_training(masked_net(settings), samples(), settings, run_dir, test=samples())


def test_the_log_has_a_line_every_few_steps_and_at_the_end_of_epochs(tmp_path: Path) -> None:
    trained(tmp_path)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [5, 6, 10, 12, 15, 18, 20]
    assert [line["step"] for line in lines if "accuracy" in line] == [5, 10, 15, 20]
    assert [line["step"] for line in lines if "firing_rates" in line] == [6, 12, 18, 20]
    assert lines[0].keys() == {
        *("step", "epoch", "loss", "lr", "seconds", "accuracy", "sigma", "eid_weight", "flips", "entropy")
    }
    assert [line["epoch"] for line in lines] == [0, 1, 1, 2, 2, 3, 3]
    assert lines[0]["sigma"] == pytest.approx(0.5 * (1 - 4 / 20 / 0.7))
    assert lines[-1]["sigma"] == lines[-1]["flips"]["second"] == 0.0
    assert any(line["flips"]["second"] > 0 for line in lines)
    assert all(0 < line["entropy"]["second"] < 1 for line in lines)
    assert all(0 <= rate <= 1 for line in lines for rate in line.get("firing_rates", {"": 0.5}).values())
    assert lines[1]["firing_rates"].keys() == {"lif1", "lif2"}


def test_a_log_changes_nothing(tmp_path: Path) -> None:
    assert same_state(tiny_run(SETTINGS), tiny_run(SETTINGS, tmp_path))


def test_flips_and_entropy_are_what_they_say() -> None:
    (_, layer, learner), *_ = masked_layers(masked_net(SETTINGS))
    assert isinstance(learner, SpikeNM)
    with torch.no_grad():
        learner.logits.zero_()
        assert entropy(learner) == pytest.approx(1.0)
        learner.logits[:, ::4] = 100.0
        assert entropy(learner) == pytest.approx(0.0, abs=1e-6)
        before = kept_weights(layer, learner)
        learner.logits[:, 2::4] = 50.0
    assert int(before.sum()) == 16 * 16 // 2
    assert share_lost(before, kept_weights(layer, learner)) == pytest.approx(0.5)


def test_curves_are_drawn_of_what_there_is(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    trained(tmp_path)
    assert draw_curves(tmp_path).read_bytes().startswith(b"\x89PNG")
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / NAME).write_text(json.dumps({"step": 1, "loss": 2.0}) + "\n")
    assert draw_curves(tmp_path / "loss").stat().st_size < draw_curves(tmp_path).stat().st_size
    with pytest.raises(InputError, match=r"has no lines in metrics\.jsonl"):
        draw_curves(tmp_path / "none")


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(tmp_path, Settings(epochs=2, batch_size=8, log_every=5, tensorboard=True))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = [(scalar.step, scalar.value) for scalar in events.Scalars("loss")]
    assert losses == [(line["step"], pytest.approx(line["loss"])) for line in read_metrics(tmp_path)]
    assert "entropy/second" in events.Tags()["scalars"]


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("matplotlib.figure", draw_curves),
        ("torch.utils.tensorboard", lambda run_dir: trained(run_dir, Settings(batch_size=8, tensorboard=True))),
    ],
)
def test_a_missing_package_is_named(
    tmp_path: Path, package: str, use: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ToolError, match=r"not installed, and .*spikenm-compile\[train\]"):
        use(tmp_path)
