"""The benchmark of the learners: names of runs, what a kill leaves, the arithmetic of the tables, and a tiny run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from benchmarks.learning import PLANS, VALIDATED, main, planned, splits_of
from benchmarks.learning_checks import Check
from benchmarks.learning_frontier import narrow, splits_for, weights_of, work_of
from benchmarks.learning_networks import data_of, network
from benchmarks.learning_plans import spikenm, variant
from benchmarks.learning_plots import plot_frontier
from benchmarks.learning_report import write_report
from benchmarks.learning_runs import Measured, Run, Training, sorted_options
from benchmarks.learning_statistics import Summary, difference_text, loss, markdown, paired, spread_text, summary
from benchmarks.learning_store import Store
from benchmarks.learning_training import batches, flipped, learning_rate, measure

RESULT = Measured(80.0, 0.5, 0.2, 0.25, (0.3, 0.2, 0.1), 9.0)


def on(run: Run, split: int) -> Run:
    return dataclasses.replace(run, split=split)


def test_a_key_holds_everything_that_is_not_at_its_default_and_nothing_else() -> None:
    run = Run("event", 3, "spikenm", "1:8", options=sorted_options({"tail": 0.1, "noise": 0.3}))
    assert run.key == (
        '{"data":"event","learner":"spikenm","options":{"noise":0.3,"tail":0.1},"pattern":"1:8","split":3}'
    )
    assert Run.from_json(json.loads(run.key)) == run
    assert variant("event").key == '{"data":"event","split":-1}'


def test_every_planned_run_differs_from_every_other() -> None:
    for command in PLANS:
        keys = [run.key for run in planned(command, [0, 1])]
        assert len(keys) == len(set(keys)) > 0, command


def test_only_tuning_looks_at_the_training_part_alone() -> None:
    for command in PLANS:
        assert {run.validate for run in planned(command, [0])} == {command in VALIDATED}, command
    whole, part = data_of(Run("digits", 0)), data_of(Run("digits", 0, validate=True))
    assert len(part.train_labels) + len(part.test_labels) == len(whole.train_labels)
    seen = {image.numpy().tobytes() for image in whole.train_images}
    assert {image.numpy().tobytes() for image in part.test_images} <= seen


def test_results_survive_and_a_torn_line_costs_its_own_run_only(tmp_path: Path) -> None:
    store, runs = Store(tmp_path), [on(variant("event"), split) for split in range(3)]
    store.add("some", runs[0], RESULT)
    path = tmp_path / "some.jsonl"
    with path.open("a") as file:
        file.write('{"run":{"data":"ev')
    again = Store(tmp_path)
    assert runs[0] in again
    assert runs[1] not in again
    again.add("some", runs[1], RESULT)
    again.add("other", runs[2], dataclasses.replace(RESULT, accuracy=70.0))
    assert sorted(Store(tmp_path).of(variant("event"))) == [0, 1, 2]
    assert Store(tmp_path).of(runs[2])[2].accuracy == 70.0


def test_differences_are_paired_by_split() -> None:
    base = {split: dataclasses.replace(RESULT, accuracy=a) for split, a in ((0, 70.0), (1, 80.0), (2, 90.0))}
    better = {split: dataclasses.replace(RESULT, accuracy=a) for split, a in ((0, 71.0), (1, 83.0), (5, 0.0))}
    assert paired(better, base) == Summary(2.0, pytest.approx(2.0**0.5), 2)  # type: ignore[arg-type]
    assert difference_text(paired(better, base)) == "+2.0 ± 1.0 (2)"
    assert spread_text(summary(base)) == "80.0 ± 10.0 (3)"
    assert summary(base, loss) == Summary(0.5, 0.0, 3)
    assert difference_text(paired(better, {})) == "–"


def test_rows_without_results_are_left_out_of_a_table() -> None:
    assert markdown(["", "a"], [["x", "1"], ["y", "–"]]) == "|  | a |\n| --- | --- |\n| x | 1 |"


def test_splits_are_read() -> None:
    assert splits_of("0-2,7") == [0, 1, 2, 7]


def test_the_learning_rate_starts_again_where_it_is_told_to() -> None:
    once, twice = learning_rate(Training(steps=100)), learning_rate(Training(steps=100, restart=0.5, restart_scale=0.4))
    assert [once(step) for step in (0, 50)] == pytest.approx([1.0, 0.5])
    assert [twice(step) for step in (0, 25, 50, 75)] == pytest.approx([1.0, 0.5, 0.4, 0.2])
    assert max(once(100), twice(100)) < 1e-9


def test_batches_are_whole_and_fixed_by_the_seed() -> None:
    first, again = list(batches(150, 5, 0)), list(batches(150, 5, 0))
    assert [len(batch) for batch in first] == [64] * 5
    assert all(map(torch.equal, first, again))
    assert len(set(torch.cat(first[:2]).tolist())) == 128


def test_flips_are_counted_in_kept_weights() -> None:
    assert flipped(torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 1.0, 0.0])) == 0.5


def test_a_tiny_run_measures_and_repeats() -> None:
    run = on(spikenm("digits", "1:4", steps=12), 0)
    first, again = measure(run), measure(run)
    assert dataclasses.replace(first, seconds=0.0) == dataclasses.replace(again, seconds=0.0)
    assert first.density == 0.25
    assert 0.0 < first.accuracy <= 100.0
    assert 0.0 < first.rate < 1.0
    assert first.flips[0] > 0.0


def test_the_plan_is_listed_without_measuring(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stress", "--splits", "900", "--list"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("4 runs are missing, about ")
    assert out.count("split 900") == 4


def test_a_check_says_what_was_measured_and_whether_it_holds(tmp_path: Path) -> None:
    store, run, base = Store(tmp_path), spikenm("event", "2:4"), variant("event")
    assert Check(run, 79.0).row(store)[1:] == ["–", "≥ 79", "–"]
    for split, better in ((0, 1.0), (1, 2.0)):
        store.add("some", on(base, split), RESULT)
        store.add("some", on(run, split), dataclasses.replace(RESULT, accuracy=RESULT.accuracy + better))
    assert Check(run, 1.5, base).row(store) == ["event spikenm 2:4 − dense", "+1.5 ± 0.5 (2)", "≥ +1.5", "yes"]
    assert Check(run, 82.0).row(store)[-1] == "**no**"


def test_weights_and_work_are_those_of_the_network() -> None:
    dense = variant("event")
    net = network(dense)
    assert weights_of(dense) == sum(p.numel() for p in net.parameters() if p.dim() > 1)
    half = spikenm("event", "2:4")
    assert weights_of(dense) - weights_of(half) == 23040 // 2
    assert work_of(dense) == 64 * 288 + 16 * (4608 + 9216) + 4 * 9216 + 1280
    assert [narrow(32, p).net for p in ("2:4", "1:4", "1:8")] == ["11-23-23", "16", "6-11-11"]
    assert splits_for(variant("event", "dense", "", "64")) == 2


def test_the_report_holds_every_result_and_the_pictures_are_small(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for run in (run for command in PLANS for run in planned(command, [0, 1])):
        store.remember(run, dataclasses.replace(RESULT, accuracy=80.0 + run.split))
    text = write_report(store).read_text()
    assert "80.5 ± 0.7 (2)" in text
    assert "nan" not in text
    assert all(f"Width {width}: dense" in text for width in (32, 64, 128))
    plot_frontier(store, tmp_path)
    pictures = list(tmp_path.glob("*.png"))
    assert len(pictures) == 2
    assert all(picture.stat().st_size < 150_000 for picture in pictures)
