import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_runs import masked_net, same_state, samples, tiny_run

from spikenm_compile.errors import CheckpointError, InputError
from spikenm_compile.learning import LEARNER_NAMES
from spikenm_compile.learning.options import LearnerName
from spikenm_compile.training.checkpoint import NAME
from spikenm_compile.training.metrics import read_metrics
from spikenm_compile.training.settings import Settings
from spikenm_compile.training.step import Progress
from spikenm_compile.training.trainer import Observer, run_training

SHORT = Settings(epochs=3, batch_size=8, checkpoint_every=4, log_every=1)
"""15 steps."""


class Stop(Exception):  # noqa: N818
    """Ends a training as an accident does."""


def stop_after(step: int) -> Observer:
    def observer(reached: Progress) -> None:
        if reached.step == step:
            raise Stop

    return observer


def interrupted(settings: Settings, run_dir: Path, step: int) -> None:
    with pytest.raises(Stop):
        tiny_run(settings, run_dir, observers=(stop_after(step),))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"precision": "bfloat16", "accumulate": 2},
        {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}, "lr": 0.1},
        {"optimizer": "NAdam", "warmup": 5},
        {"optimizer": "Adafactor", "lr": 0.1},
        {"compile": "eager"},
    ],
    ids=["adamw", "bfloat16 in parts", "momentum", "nadam", "adafactor", "compiled"],
)
def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path, change: dict[str, object]) -> None:
    settings = replace(SHORT, **change)  # type: ignore[arg-type]
    expected = tiny_run(settings)
    for step in (5, 13):  # in the search, and in the frozen tail
        torch.manual_seed(step)
        with pytest.raises(Stop):
            tiny_run(settings, tmp_path, resume=True, observers=(stop_after(step),))
    actual = tiny_run(settings, tmp_path, resume=True)
    assert same_state(expected, actual)
    assert not same_state(expected, masked_net(settings))


@pytest.mark.parametrize("learner", LEARNER_NAMES)
def test_every_learner_resumes_with_the_same_bits(tmp_path: Path, learner: LearnerName) -> None:
    expected = tiny_run(SHORT, learner=learner)
    for step in (6, 10):  # before and behind the pruning of ASP
        with pytest.raises(Stop):
            tiny_run(SHORT, tmp_path, resume=True, observers=(stop_after(step),), learner=learner)
    assert same_state(expected, tiny_run(SHORT, tmp_path, resume=True, learner=learner))


def test_a_training_in_whole_numbers_resumes_with_the_same_bits(tmp_path: Path) -> None:
    expected = tiny_run(SHORT, weight_type="int4")
    for step in (8, 13):  # in the search, and in the frozen tail
        with pytest.raises(Stop):
            tiny_run(SHORT, tmp_path, resume=True, observers=(stop_after(step),), weight_type="int4")
    assert same_state(expected, tiny_run(SHORT, tmp_path, resume=True, weight_type="int4"))
    with pytest.raises(CheckpointError, match=r"masks\.head\.baseline_decay=0\.99, and this one has None"):
        tiny_run(SHORT, tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=r"masks\.head\.weight_type='int4', and this one has 'int7'"):
        tiny_run(SHORT, tmp_path, resume=True, weight_type="int7")
    floats = tiny_run(SHORT)
    assert not torch.equal(floats.second.weight, expected.second.weight)


def test_the_log_has_every_step_once_after_a_resume(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    tiny_run(SHORT, whole)
    interrupted(SHORT, broken, 7)
    with (broken / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    tiny_run(SHORT, broken, resume=True)
    expected, actual = read_metrics(whole), read_metrics(broken)
    assert [line["step"] for line in actual] == list(range(1, 16))
    assert [line["loss"] for line in actual] == [line["loss"] for line in expected]
    assert [line["entropy"] for line in actual] == [line["entropy"] for line in expected]


def test_a_finished_training_stays_finished(tmp_path: Path) -> None:
    expected = tiny_run(SHORT, tmp_path)
    seen: list[Progress] = []
    assert same_state(expected, tiny_run(SHORT, tmp_path, resume=True, observers=(seen.append,)))
    assert seen == []
    assert len(list(tmp_path.glob("step-*"))) == 1


def test_a_training_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    tiny_run(SHORT, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match="holds a training at step 15, and it would be lost; resume it"):
        tiny_run(SHORT, tmp_path)
    assert contents(tmp_path) == before


def test_another_training_is_refused_by_what_differs_and_nothing_is_lost(tmp_path: Path) -> None:
    tiny_run(SHORT, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match=r"settings\.lr=0\.003, and this one has 0\.1"):
        tiny_run(Settings(epochs=3, batch_size=8, lr=0.1), tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=r"masks\.second\.schedule\.noise=0\.5, and this one has 0\.25"):
        run_training(masked_net(SHORT, noise=0.25), samples(), SHORT, tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=r"another model: 'norm\.bias' is 16 there and missing here"):
        run_training(masked_net(SHORT, norm=False), samples(), SHORT, tmp_path, resume=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "json", "json value", "schema"])
def test_a_damaged_checkpoint_is_refused_in_one_sentence(tmp_path: Path, damage: str) -> None:
    tiny_run(SHORT, tmp_path)
    tensors, manifest = next(tmp_path.glob("step-*")), tmp_path / NAME
    content = json.loads(manifest.read_text())
    data = bytearray(tensors.read_bytes())
    data[-9] ^= 1
    damages: dict[str, Callable[[], object]] = {
        "flip": lambda: tensors.write_bytes(data),
        "cut": lambda: tensors.write_bytes(data[:100]),
        "missing": tensors.unlink,
        "json": lambda: manifest.write_text(manifest.read_text()[:-30]),
        "json value": lambda: manifest.write_text(json.dumps({**content, "step": 3})),
        "schema": lambda: manifest.write_text(json.dumps({**content, "schema": 2})),
    }
    damages[damage]()
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match=r"give another run_dir, or remove this one to start again$") as error:
        tiny_run(SHORT, tmp_path, resume=True)
    assert "\n" not in str(error.value)
    assert contents(tmp_path) == before


def test_the_old_checkpoint_counts_until_the_new_one_is_complete(tmp_path: Path) -> None:
    expected = tiny_run(SHORT)
    interrupted(SHORT, tmp_path / "run", 5)
    shutil.copy(next((tmp_path / "run").glob("step-*")), tmp_path / "run" / "step-00000008-0123.safetensors")
    (tmp_path / "run" / "tensors.unfinished").write_text("half of it")
    (tmp_path / "run" / f"{NAME}.unfinished").write_text("half of it")
    assert same_state(expected, tiny_run(SHORT, tmp_path / "run", resume=True))
    assert sorted(p.name for p in (tmp_path / "run").iterdir() if p.name.startswith(("step", "check", "tens"))) == [
        NAME,
        next((tmp_path / "run").glob("step-*")).name,
    ]


def test_a_run_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(InputError, match="is a file, and a training writes into a directory"):
        tiny_run(SHORT, tmp_path / "run")


def contents(run_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run_dir.iterdir()}
