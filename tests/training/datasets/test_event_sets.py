from pathlib import Path

import numpy as np
import pytest
import torch
from event_files import aedat2_bytes, aedat3_bytes, n_mnist_bytes, random_events, write
from torch.utils.data import DataLoader

from spikenm_compile.errors import DataError
from spikenm_compile.training.datasets.cifar10_dvs import CLASSES, load_cifar10_dvs
from spikenm_compile.training.datasets.dvs128_gesture import load_dvs128_gesture
from spikenm_compile.training.datasets.frames import Frames, count_events
from spikenm_compile.training.datasets.kinds import DataOptions
from spikenm_compile.training.datasets.n_mnist import load_n_mnist

ROOT = Path(__file__).parents[3]
TITLES = "class,startTime_usec,endTime_usec\n"
DEFAULT = DataOptions()


def write_cifar10_dvs(root: Path) -> Path:
    for label, name in enumerate(CLASSES):
        for number in (7, 99, 100, 1000):
            path = root / name / f"cifar10_{name}_{number}.aedat"
            write(path, aedat2_bytes(random_events(200, 128, 10_000 * label + number)))
    write(root / "bird" / "notes.txt", "not a recording")
    return root


def test_cifar10_dvs_is_split_by_the_numbers_of_the_files(tmp_path: Path) -> None:
    root = write_cifar10_dvs(tmp_path)
    train, test = (load_cifar10_dvs(root, split, DataOptions(Frames(4))) for split in ("train", "test"))
    assert [r.path.stem for r in test.recordings[:2]] == ["cifar10_airplane_7", "cifar10_airplane_99"]
    assert [r.path.stem for r in train.recordings[2:4]] == ["cifar10_automobile_100", "cifar10_automobile_1000"]
    sample, label = train[3]
    assert label == 1
    assert sample.shape == (4, 2, 128, 128)
    assert np.array_equal(sample.numpy(), count_events(random_events(200, 128, 11_000), Frames(4), 128, 128))


def test_the_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10_dvs(tmp_path / "data" / "cifar10-dvs")
    monkeypatch.chdir(tmp_path)
    example = (ROOT / "docs" / "data.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(example, names)
    frames = names["frames"]
    assert isinstance(frames, torch.Tensor)
    assert frames.shape == (20, 10, 2, 128, 128)
    assert len(list((tmp_path / "frames-cache").iterdir())) == 20


def test_samples_of_dvs128_gesture_are_parts_of_recordings(tmp_path: Path) -> None:
    events = random_events(900, 128)
    start, stop = events["t"][[300, 400]]  # of events: the end does not belong to a part
    folder = tmp_path / "DvsGesture"
    write(folder / "user01_led.aedat", aedat3_bytes(events))
    write(folder / "user01_led_labels.csv", f"{TITLES}1,100,{start}\n11,{start},{stop}\n1,{stop},270000\n")
    write(folder / "trials_to_train.txt", "user01_led.aedat\n\n")
    data = load_dvs128_gesture(tmp_path, "train", DataOptions(Frames(3)))
    assert [r.label for r in data.recordings] == [0, 10, 0]
    part = events[(events["t"] >= start) & (events["t"] < stop)]
    assert len(part) == 100
    assert np.array_equal(data.events(1), part)
    assert np.array_equal(data[1][0].numpy(), count_events(part, Frames(3), 128, 128))


def write_n_mnist(root: Path) -> Path:
    for digit in range(10):
        write(root / "Train" / str(digit) / f"0000{digit}.bin", n_mnist_bytes(random_events(100, 34, digit)))
    return root


def test_n_mnist_can_be_loaded_in_batches(tmp_path: Path) -> None:
    data = load_n_mnist(write_n_mnist(tmp_path), "train", DEFAULT)
    (samples, labels), *_ = DataLoader(data, batch_size=10)
    assert samples.shape == (10, 16, 2, 34, 34)
    assert samples.sum() == 1000
    assert labels.tolist() == list(range(10))


def test_frames_are_kept_and_made_anew_when_their_file_or_their_making_changes(tmp_path: Path) -> None:
    root, cache = write_n_mnist(tmp_path / "files"), tmp_path / "cache"
    options = DataOptions(Frames(4), cache)
    first = load_n_mnist(root, "train", options)[3][0]
    kept = list(cache.iterdir())
    assert len(kept) == 1
    again = load_n_mnist(root, "train", options)
    again.read = lambda path: pytest.fail(f"{path} is read again")
    assert torch.equal(again[3][0], first)
    other = load_n_mnist(root, "train", DataOptions(Frames(5), cache))[3][0]
    assert other.shape[0] == 5
    write(root / "Train" / "3" / "00003.bin", n_mnist_bytes(random_events(101, 34)))
    assert load_n_mnist(root, "train", options)[3][0].sum() == 101


def test_a_damaged_file_of_the_cache_is_named(tmp_path: Path) -> None:
    data = load_n_mnist(write_n_mnist(tmp_path / "files"), "train", DataOptions(cache=tmp_path / "cache"))
    _ = data[0]
    (kept,) = (tmp_path / "cache").iterdir()
    whole = kept.read_bytes()
    for place in (0, len(whole) // 2):
        kept.write_bytes(whole[:place])
        with pytest.raises(DataError, match=f"{kept.name} is damaged .*; delete this file"):
            data[0]


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    for cache in (None, tmp_path / "cache"):
        data = load_n_mnist(write_n_mnist(tmp_path / "files"), "train", DataOptions(cache=cache))
        data.recordings[0].path.unlink()
        with pytest.raises(DataError, match=r"00000\.bin cannot be read \(No such file"):
            data[0]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    data = load_n_mnist(write_n_mnist(tmp_path / "files"), "train", DataOptions(cache=write(tmp_path / "file", b"")))
    with pytest.raises(DataError, match=r"cannot be written .*; give a folder"):
        data[0]


@pytest.mark.parametrize(
    ("trials", "labels", "sentence"),
    [
        ("../other.aedat\n", "", r"names '\.\./other\.aedat'; lines are names of \.aedat files"),
        ("a.aedat\n", TITLES + "1,2\n", r"line 2: '1,2' is not class,start,end"),
        ("a.aedat\n", TITLES + "\n12,1,2\n", "line 3: class 12 from 1 to 2; classes are 1 to 11"),
        ("a.aedat\n", TITLES + "1,2," + "9" * 5000, "line 2: '1,2,9+' is not class"),
        ("a.aedat\n", TITLES + "1,5,5\n", "class 1 from 5 to 5"),
        ("a.aedat\n", TITLES, "trials_to_test.txt holds no samples"),
        ("b.aedat\n", TITLES, r"there is no .*b\.aedat; expected in the root are trials_to_train\.txt"),
    ],
)
def test_lists_of_gestures_that_make_no_sense_are_refused(
    trials: str, labels: str, sentence: str, tmp_path: Path
) -> None:
    write(tmp_path / "a.aedat", b"")
    write(tmp_path / "a_labels.csv", labels)
    write(tmp_path / "trials_to_test.txt", trials)
    with pytest.raises(DataError, match=sentence):
        load_dvs128_gesture(tmp_path, "test", DEFAULT)


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "trials_to_test.txt", b"user\xff.aedat")
    with pytest.raises(DataError, match="byte 4: no UTF-8"):
        load_dvs128_gesture(tmp_path, "test", DEFAULT)
