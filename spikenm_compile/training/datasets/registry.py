"""Every data set by its name."""

from __future__ import annotations

from pathlib import Path

from spikenm_compile.errors import InputError
from spikenm_compile.training.datasets.cifar import CIFAR10, CIFAR100
from spikenm_compile.training.datasets.cifar10_dvs import CIFAR10_DVS
from spikenm_compile.training.datasets.dvs128_gesture import DVS128_GESTURE
from spikenm_compile.training.datasets.kinds import DataOptions, DatasetKind, Samples, Split
from spikenm_compile.training.datasets.made import DIGITS, EVENT_DIGITS, GESTURES
from spikenm_compile.training.datasets.n_mnist import N_MNIST
from spikenm_compile.training.datasets.shd import SHD
from spikenm_compile.training.datasets.tiny_imagenet import TINY_IMAGENET

DATASETS: dict[str, DatasetKind] = {
    "digits": DIGITS,
    "event-digits": EVENT_DIGITS,
    "gestures": GESTURES,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "tiny-imagenet": TINY_IMAGENET,
    "cifar10-dvs": CIFAR10_DVS,
    "dvs128-gesture": DVS128_GESTURE,
    "n-mnist": N_MNIST,
    "shd": SHD,
}


def dataset_kind(name: str) -> DatasetKind:
    """Facts about a data set, which need no files.

    Raises:
        InputError: there is no set of this name.
    """
    if name not in DATASETS:
        raise InputError(f"there is no data set '{name}'; there are {', '.join(DATASETS)}; choose one of them")
    return DATASETS[name]


def load_dataset(name: str, root: str | Path | None, split: Split, options: DataOptions | None = None) -> Samples:
    """The samples of a split.

    Args:
        name: a key of `DATASETS`.
        root: folder with the files of the set; None for sets that are made on this machine.
        split: train or test.
        options: None: the defaults.

    Returns:
        Samples with a length: (float32 tensor of `DatasetKind.sample_shape`, class from 0).

    Raises:
        InputError: an unknown name or split, no root where one is needed, or frames of a set without events.
        DataError: files are missing or damaged.
        ToolError: a package that reads this format is not installed.
    """
    kind = dataset_kind(name)
    options = options or DataOptions()
    if split not in ("train", "test"):
        raise InputError(f"{name} has no split '{split}'; train and test are supported; choose one of them")
    if kind.frames is None and options.frames is not None:
        raise InputError(f"{name} is not read from events; frames are options of event sets; leave them out")
    if kind.source is None:
        return kind.load(Path(), split, options)
    if root is None:
        raise InputError(
            f"{name} is read from your files; expected in a folder are {kind.source.expects}; "
            f"{kind.source.published}; give the folder as root"
        )
    return kind.load(Path(root), split, options)
