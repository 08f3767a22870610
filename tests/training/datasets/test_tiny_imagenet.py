from pathlib import Path

import numpy as np
import pytest
import torch
from event_files import write

from spikenm_compile.errors import DataError
from spikenm_compile.training.datasets.kinds import DataOptions
from spikenm_compile.training.datasets.tiny_imagenet import load_tiny_imagenet

Image = pytest.importorskip("PIL.Image")
DEFAULT = DataOptions()


def write_images(root: Path, size: int = 64) -> Path:
    write(root / "wnids.txt", "n02\nn01\n")
    for name, colour in (("n01", (255, 0, 0)), ("n02", (0, 0, 255))):
        path = root / "train" / name / "images" / f"{name}_0.JPEG"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (size, size), colour).save(path, "JPEG")
    grey = root / "val" / "images" / "val_0.JPEG"
    grey.parent.mkdir(parents=True)
    Image.new("L", (size, size), 51).save(grey, "JPEG")
    write(root / "val" / "val_annotations.txt", "val_0.JPEG\tn02\t0\t0\t10\t10\n")
    return root


def test_images_and_labels(tmp_path: Path) -> None:
    write_images(tmp_path / "tiny-imagenet-200")
    train, test = (load_tiny_imagenet(tmp_path, split, DEFAULT) for split in ("train", "test"))
    assert [label for _, label in train] == [0, 1]
    assert train[0][0].shape == (3, 64, 64)
    assert np.allclose(train[1][0].mean((1, 2)), [0, 0, 1], atol=0.02)
    image, label = test[0]
    assert label == 1
    assert torch.allclose(image, torch.full_like(image, 0.2), atol=0.01)


def test_images_that_are_none_are_refused(tmp_path: Path) -> None:
    data = load_tiny_imagenet(write_images(tmp_path), "train", DEFAULT)
    path = data.files[0].path
    whole = path.read_bytes()
    for length in (0, 100, len(whole) // 2):
        write(path, whole[:length])
        with pytest.raises(DataError, match=f"{path} is no whole image"):
            data[0]
    path.unlink()
    with pytest.raises(DataError, match=f"{path} is no whole image .*No such file"):
        data[0]


def test_a_damaged_image_never_ends_in_a_traceback(tmp_path: Path) -> None:
    data = load_tiny_imagenet(write_images(tmp_path), "train", DEFAULT)
    path = data.files[0].path
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(0, 256)
        write(path, bytes(damaged))
        try:
            assert data[0][0].shape == (3, 64, 64)
        except DataError:
            refused += 1
    assert refused > 10


def test_images_of_another_format_are_refused(tmp_path: Path) -> None:
    data = load_tiny_imagenet(write_images(tmp_path), "train", DEFAULT)
    Image.new("RGB", (64, 64)).save(data.files[0].path, "PNG")
    with pytest.raises(DataError, match="is no whole image"):
        data[0]


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 32×32 pixels; images of Tiny ImageNet have 64×64"):
        load_tiny_imagenet(write_images(tmp_path, 32), "train", DEFAULT)[0]


@pytest.mark.parametrize("line", ["val_0.JPEG", "val_0.JPEG\tn03\t0", "../x.JPEG\tn01\t0"])
def test_annotations_that_make_no_sense_are_refused(line: str, tmp_path: Path) -> None:
    write(write_images(tmp_path) / "val" / "val_annotations.txt", line)
    with pytest.raises(DataError, match=r"line 1: .* does not begin with a file and a class"):
        load_tiny_imagenet(tmp_path, "test", DEFAULT)
