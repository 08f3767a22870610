"""Tiny ImageNet (Stanford, CS231n): 200 classes of ImageNet as JPEG files of 64×64 pixels.

    wnids.txt                              names of the classes, one per line; label = place in sorted order
    train/WNID/images/*.JPEG               training images
    val/images/*.JPEG, val/val_annotations.txt   file, WNID, box; tabs between them

The labels of the published test images are not public: split test is val, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from spikenm_compile.errors import DataError, ToolError
from spikenm_compile.training.datasets.files import read_lines
from spikenm_compile.training.datasets.kinds import DataOptions, DatasetKind, Sample, Samples, Source, Split

SIZE = 64
NUM_CLASSES = 200
FOLDER = "tiny-imagenet-200"
SOURCE = Source(
    "tiny-imagenet",
    "wnids.txt and the folders train and val, or the folder tiny-imagenet-200 with them",
    "published by Stanford's course CS231n (tiny-imagenet-200.zip)",
)


@dataclass(frozen=True)
class ImageFile:
    """A sample that is read when it is asked for."""

    path: Path
    label: int


class ImageFiles(Samples):
    """Image files as float32 [3, 64, 64] in 0..1."""

    def __init__(self, files: tuple[ImageFile, ...]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file = self.files[index]
        return torch.from_numpy(read_image(file.path).transpose(2, 0, 1).astype(np.float32) / 255.0), file.label


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """An image [64, 64, 3]; grey ones have three equal colours.

    Raises:
        ToolError: Pillow is not installed.
        DataError: the file is missing, damaged or of another size.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ToolError(
            "Pillow is not installed; images of Tiny ImageNet are JPEG files; use pip install 'spikenm-compile[data]'"
        ) from error
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            if image.size != (SIZE, SIZE):
                raise DataError(
                    f"{path} has {image.size[0]}×{image.size[1]} pixels; images of Tiny ImageNet have {SIZE}×{SIZE}; "
                    "take a fresh copy of the file"
                )
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} is no whole image ({error}); JPEG files are read; take a fresh copy of the file"
        ) from error


def load_tiny_imagenet(root: Path, split: Split, _options: DataOptions) -> ImageFiles:
    """Images of a split.

    Raises:
        DataError: files are missing, or the lists cannot be read.
    """
    folder = root / FOLDER if (root / FOLDER).exists() else root
    names = sorted(line.strip() for line in read_lines(SOURCE.require(folder / "wnids.txt")) if line.strip())
    labels = {name: label for label, name in enumerate(names)}
    files = tuple(_training(folder, labels) if split == "train" else _validation(folder, labels))
    SOURCE.require_samples(len(files), folder)
    return ImageFiles(files)


def _training(folder: Path, labels: dict[str, int]) -> Iterator[ImageFile]:
    for name, label in labels.items():
        for path in sorted(SOURCE.require(folder / "train" / name / "images").glob("*.JPEG")):
            yield ImageFile(path, label)


def _validation(folder: Path, labels: dict[str, int]) -> Iterator[ImageFile]:
    annotations = SOURCE.require(folder / "val" / "val_annotations.txt")
    for number, line in enumerate(read_lines(annotations), start=1):
        entries = line.split("\t")
        if len(entries) < 2 or entries[1] not in labels or Path(entries[0]).name != entries[0]:
            raise DataError(
                f"{annotations}, line {number}: '{line[:60]}' does not begin with a file and a class of wnids.txt; "
                "take a fresh copy of the file"
            )
        yield ImageFile(folder / "val" / "images" / entries[0], labels[entries[1]])


TINY_IMAGENET = DatasetKind((3, SIZE, SIZE), NUM_CLASSES, 100_000, 10_000, load_tiny_imagenet, SOURCE)
