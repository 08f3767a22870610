import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from event_files import n_mnist_bytes, random_events, write

from spikenm_compile.errors import DataError, InputError, ToolError
from spikenm_compile.training.datasets.frames import Frames
from spikenm_compile.training.datasets.kinds import DataOptions
from spikenm_compile.training.datasets.registry import DATASETS, dataset_kind, load_dataset
from spikenm_compile.training.digits import load_digits

DOCS = Path(__file__).parents[3] / "docs" / "data.md"
FROM_FILES = [name for name, kind in DATASETS.items() if kind.source]


def test_every_set_has_its_place() -> None:
    assert list(DATASETS) == [
        *("digits", "event-digits", "gestures", "cifar10", "cifar100", "tiny-imagenet"),
        *("cifar10-dvs", "dvs128-gesture", "n-mnist", "shd"),
    ]
    assert all(kind.source is None or kind.source.name == name for name, kind in DATASETS.items())


@pytest.mark.parametrize("name", FROM_FILES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_files_are_told_where_they_belong(name: str, split: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^{name}: there is no {tmp_path}/\S+; expected in the root are .*published"):
        load_dataset(name, tmp_path, split)
    with pytest.raises(InputError, match=f"^{name} is read from your files; expected in a folder are .*published"):
        load_dataset(name, None, split)


@pytest.mark.parametrize(("name", "missing", "package"), [("shd", "h5py", "h5py"), ("tiny-imagenet", "PIL", "Pillow")])
def test_missing_packages_are_named(
    name: str, missing: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def without(module: str, *args: Any, **kwargs: Any) -> Any:
        if module.split(".")[0] == missing:
            raise ImportError(module)
        return real_import(module, *args, **kwargs)

    write(tmp_path / "shd_train.h5", b"")
    write(tmp_path / "wnids.txt", "n01\n")
    write(tmp_path / "train" / "n01" / "images" / "a.JPEG", b"")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ToolError, match=rf"{package} is not installed; .*pip install 'spikenm-compile\[data\]'"):
        load_dataset(name, tmp_path, "train")[0]


def test_digits_are_those_of_the_seed() -> None:
    data = load_digits(3)
    train, test = (load_dataset("digits", None, split, DataOptions(seed=3)) for split in ("train", "test"))
    kind = dataset_kind("digits")
    assert (len(train), len(test)) == (kind.num_train, kind.num_test)
    image, label = test[5]
    assert torch.equal(image, data.test_images[5])
    assert label == int(data.test_labels[5])
    assert image.shape == kind.sample_shape(DataOptions())


def test_event_digits_are_those_of_their_module() -> None:
    kind, data = dataset_kind("event-digits"), load_dataset("event-digits", None, "test")
    assert len(data) == kind.num_test
    assert data[0][0].shape == kind.sample_shape(DataOptions())


@pytest.mark.parametrize("name", DATASETS)
def test_the_table_of_the_docs_says_what_the_code_knows(name: str) -> None:
    rows = [line.split(" | ") for line in DOCS.read_text().splitlines() if line.startswith(f"| `{name}` |")]
    kind = dataset_kind(name)
    (row,) = rows
    assert row[3:5] == [f"`{list(kind.sample_shape(DataOptions()))}`", str(kind.num_classes)]
    assert row[5].startswith(f"{kind.num_train} / {kind.num_test}")


def test_shapes_are_known_without_files(tmp_path: Path) -> None:
    options = DataOptions(Frames(5))
    assert dataset_kind("shd").sample_shape(options) == (5, 700)
    assert dataset_kind("cifar10").sample_shape(DataOptions()) == (3, 32, 32)
    assert dataset_kind("gestures").sample_shape(DataOptions()) == (16, 2, 32, 32)
    for digit in range(10):
        write(tmp_path / "Test" / str(digit) / "1.bin", n_mnist_bytes(random_events(9, 34)))
    assert load_dataset("n-mnist", tmp_path, "test", options)[0][0].shape == dataset_kind("n-mnist").sample_shape(
        options
    )


def test_an_empty_folder_holds_no_samples(tmp_path: Path) -> None:
    for digit in range(10):
        (tmp_path / "Test" / str(digit)).mkdir(parents=True)
    with pytest.raises(DataError, match=r"^n-mnist: .*Test holds no samples"):
        load_dataset("n-mnist", tmp_path, "test")


def test_wrong_questions_are_answered() -> None:
    with pytest.raises(InputError, match="there is no data set 'mnist'; there are digits, "):
        load_dataset("mnist", None, "train")
    with pytest.raises(InputError, match="digits has no split 'val'"):
        load_dataset("digits", None, "val")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="digits is not read from events"):
        load_dataset("digits", None, "train", DataOptions(Frames(3)))
