"""CIFAR-10 and CIFAR-100 (Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009), both versions.

    python version   a pickled dict per file: data uint8 [N, 3072], labels (CIFAR-10) or fine_labels (CIFAR-100)
    binary version   records of 1 (CIFAR-10: class) or 2 (CIFAR-100: coarse, fine class) bytes and 3072 bytes

3072 bytes are an image [3, 32, 32], red, green, blue, rows from the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikenm_compile.errors import DataError
from spikenm_compile.training.datasets.files import damaged, read_bytes
from spikenm_compile.training.datasets.kinds import ByteImages, DataOptions, DatasetKind, Source, Split
from spikenm_compile.training.datasets.plain_pickle import load_plain

SHAPE = (3, 32, 32)
PIXELS = 3072
PUBLISHED = "published on the CIFAR page of Alex Krizhevsky at the University of Toronto (python or binary version)"
Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cifar:
    """Names of one of the two sets."""

    num_classes: int
    python_folder: str
    python_files: dict[Split, tuple[str, ...]]
    labels_key: bytes
    binary_folder: str
    binary_files: dict[Split, tuple[str, ...]]
    label_bytes: int
    """In front of each binary image; the last of them is the class."""
    source: Source

    def load(self, root: Path, split: Split, _options: DataOptions) -> ByteImages:
        """Images uint8 in memory; the python version where both are there.

        Raises:
            DataError: files are missing or damaged.
        """
        binary = root / self.binary_folder
        if binary.exists() and not (root / self.python_folder).exists():
            parts = [self.read_binary(self.source.require(binary / name)) for name in self.binary_files[split]]
        else:
            folder = self.source.require(root / self.python_folder)
            parts = [self.read_python(self.source.require(folder / name)) for name in self.python_files[split]]
        images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
        self.source.require_samples(len(labels), root)
        return ByteImages(images.reshape(-1, *SHAPE), labels)

    def read_python(self, path: Path) -> tuple[Bytes, Labels]:
        """A file of the python version: images [N, 3072] and classes [N].

        Raises:
            DataError: it is damaged, or holds anything but arrays, texts, numbers and lists.
        """
        batch = load_plain(path)
        if not isinstance(batch, dict) or not {b"data", self.labels_key} <= batch.keys():
            raise DataError(
                f"{path} holds no dict with data and {self.labels_key.decode()}; batches of {self.source.name} have "
                "both; take a fresh copy"
            )
        images, labels = batch[b"data"], batch[self.labels_key]
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (PIXELS,):
            raise DataError(
                f"{path}: data is no array uint8 [N, {PIXELS}]; only that is an image batch; take a fresh copy"
            )
        if not isinstance(labels, list) or len(labels) != len(images) or not all(type(x) is int for x in labels):
            raise DataError(f"{path}: labels are not {len(images)} whole numbers; one per image; take a fresh copy")
        return images, self._checked(path, np.array(labels, np.int64))

    def read_binary(self, path: Path) -> tuple[Bytes, Labels]:
        """A file of the binary version: images [N, 3072] and classes [N].

        Raises:
            DataError: it does not end with a whole record, or has a class that does not exist.
        """
        data = np.frombuffer(read_bytes(path), np.uint8)
        record = self.label_bytes + PIXELS
        if len(data) % record:
            start = len(data) - len(data) % record
            raise damaged(path, start, f"a record of {len(data) - start} bytes", f"records have {record} bytes")
        rows = data.reshape(-1, record)
        return rows[:, self.label_bytes :], self._checked(path, rows[:, self.label_bytes - 1].astype(np.int64))

    def _checked(self, path: Path, labels: Labels) -> Labels:
        wrong = np.flatnonzero((labels < 0) | (labels >= self.num_classes))
        if len(wrong):
            raise DataError(
                f"{path}: image {wrong[0]} has class {labels[wrong[0]]}; {self.source.name} has classes 0 to "
                f"{self.num_classes - 1}; take a fresh copy of the file"
            )
        return labels


CIFAR10_SET = Cifar(
    num_classes=10,
    python_folder="cifar-10-batches-py",
    python_files={"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    labels_key=b"labels",
    binary_folder="cifar-10-batches-bin",
    binary_files={"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    label_bytes=1,
    source=Source("cifar10", "the folder cifar-10-batches-py or cifar-10-batches-bin", PUBLISHED),
)
CIFAR100_SET = Cifar(
    num_classes=100,
    python_folder="cifar-100-python",
    python_files={"train": ("train",), "test": ("test",)},
    labels_key=b"fine_labels",
    binary_folder="cifar-100-binary",
    binary_files={"train": ("train.bin",), "test": ("test.bin",)},
    label_bytes=2,
    source=Source("cifar100", "the folder cifar-100-python or cifar-100-binary", PUBLISHED),
)
CIFAR10 = DatasetKind(SHAPE, 10, 50_000, 10_000, CIFAR10_SET.load, CIFAR10_SET.source)
CIFAR100 = DatasetKind(SHAPE, 100, 50_000, 10_000, CIFAR100_SET.load, CIFAR100_SET.source)
