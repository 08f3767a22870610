import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from event_files import write

from spikenm_compile.errors import DataError
from spikenm_compile.training.datasets.cifar import CIFAR10_SET, CIFAR100_SET
from spikenm_compile.training.datasets.kinds import DataOptions
from spikenm_compile.training.datasets.plain_pickle import load_plain

DEFAULT = DataOptions()
Bytes = npt.NDArray[np.uint8]


def random_images(number: int = 4, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (number, 3072)).astype(np.uint8)


def text(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value


def python2_pickle(images: Bytes, labels: list[int], key: bytes = b"labels") -> bytes:
    """What cPickle of Python 2 writes with protocol 2: texts are byte strings, the array comes from numpy.core."""
    data = images.tobytes()
    dtype = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        + text(b"b")
        + b"\x87R(K\x01"
        + b"".join(b"J" + struct.pack("<i", n) for n in images.shape)
        + b"\x86"
        + dtype
        + b"\x89T"
        + struct.pack("<i", len(data))
        + data
        + b"tb"
    )
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"batch_label") + text(b"one") + text(key) + listed + text(b"data") + array + b"u."


def test_the_written_pickle_is_that_of_python_2() -> None:
    images = random_images()
    batch = pickle.loads(python2_pickle(images, [1, 2, 3, 4]), encoding="bytes")
    assert np.array_equal(batch[b"data"], images)
    assert batch[b"labels"] == [1, 2, 3, 4]


@pytest.mark.parametrize("protocol", [3, 4])
def test_pickles_of_plain_data_are_read_as_pickle_reads_them(protocol: int, tmp_path: Path) -> None:
    data = {b"a": [1, 2.5, "x", None, True], "b": (np.arange(6).reshape(2, 3), {"c": np.array([2, 1], np.float32)})}
    actual: Any = load_plain(write(tmp_path / "file", pickle.dumps(data, protocol)))
    assert actual[b"a"] == data[b"a"]
    assert np.array_equal(actual["b"][0], np.arange(6).reshape(2, 3))
    assert actual["b"][1]["c"].tolist() == [2, 1]
    turned = np.asfortranarray(np.arange(6).reshape(2, 3))
    assert np.array_equal(np.asarray(load_plain(write(tmp_path / "f", pickle.dumps(turned, protocol)))), turned)


def test_the_python_version(tmp_path: Path) -> None:
    for part in range(1, 6):
        data = python2_pickle(random_images(2, part), [part, 9])
        write(tmp_path / "cifar-10-batches-py" / f"data_batch_{part}", data)
    write(tmp_path / "cifar-100-python" / "test", python2_pickle(random_images(2), [99, 0], b"fine_labels"))
    ten, hundred = CIFAR10_SET.load(tmp_path, "train", DEFAULT), CIFAR100_SET.load(tmp_path, "test", DEFAULT)
    assert (len(ten), len(hundred)) == (10, 2)
    image, label = ten[2]
    assert label == 2
    assert torch.equal(image, torch.from_numpy(random_images(2, 2)[0].reshape(3, 32, 32)).float() / 255)
    assert [label for _, label in hundred] == [99, 0]


def test_the_binary_version(tmp_path: Path) -> None:
    images = random_images()
    labels = np.array([[3, 4, 5, 9]], np.uint8).T
    write(tmp_path / "cifar-10-batches-bin" / "test_batch.bin", np.hstack([labels, images]).tobytes())
    write(tmp_path / "cifar-100-binary" / "train.bin", np.hstack([labels * 0 + 7, labels, images]).tobytes())
    for data in (CIFAR10_SET.load(tmp_path, "test", DEFAULT), CIFAR100_SET.load(tmp_path, "train", DEFAULT)):
        assert [label for _, label in data] == [3, 4, 5, 9]
        assert torch.equal(data[1][0] * 255, torch.from_numpy(images[1].reshape(3, 32, 32)).float())


def test_a_binary_file_that_ends_inside_of_a_record_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "test_batch.bin", bytes(2 * 3073 + 5))
    with pytest.raises(DataError, match="byte 6146: a record of 5 bytes; records have 3073 bytes"):
        CIFAR10_SET.read_binary(path)
    write(path, bytes([0]) + bytes(3072) + bytes([10]) + bytes(3072))
    with pytest.raises(DataError, match="image 1 has class 10; cifar10 has classes 0 to 9"):
        CIFAR10_SET.read_binary(path)


class Command:
    """An object whose pickle runs a command when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(protocol: int, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    attacks = (
        Command(Path.touch, victim),
        Command(open, str(victim), "w"),
        Command(eval, f"open({str(victim)!r}, 'w')"),
        Command(np.save, str(victim), 1),
    )
    for attack in attacks:
        path = write(tmp_path / "file", pickle.dumps({b"data": attack}, protocol))
        with pytest.raises(DataError, match=r"the name .*; only arrays, texts, numbers, lists and dicts are loaded"):
            load_plain(path)
    assert not list(tmp_path.glob("victim*"))


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.array([object()], object), r"the name \w+\.\w+"),
        (np.array([None], object), "an array that is not of plain numbers"),
        (np.zeros(2, "U3"), "an array of type 'U3'"),
        (np.zeros(2, [("a", "u1")]), "an array of type 'V1'"),
    ],
)
def test_arrays_of_anything_but_numbers_are_refused(array: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        load_plain(write(tmp_path / "file", pickle.dumps(array, 3)))


def test_an_array_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    whole = python2_pickle(random_images(2), [0, 1])
    claimed = whole.replace(b"J" + struct.pack("<i", 2), b"J" + struct.pack("<i", 2**31 - 1))
    assert claimed != whole
    with pytest.raises(DataError, match=r"an array of shape \(2147483647, 3072\) in 6144 bytes"):
        load_plain(write(tmp_path / "file", claimed))


def test_a_pickle_that_is_cut_off_or_damaged_ends_in_one_sentence(tmp_path: Path) -> None:
    whole = python2_pickle(random_images(1), [5])
    path = tmp_path / "file"
    for length in [*range(300), 1000, len(whole) - 1]:
        with pytest.raises(DataError, match=f"{path}, byte "):
            load_plain(write(path, whole[:length]))
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(0, 250)] = rng.integers(0, 256)
        try:
            CIFAR10_SET.read_python(write(path, bytes(damaged)))
        except DataError:
            continue


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        ([1], "holds no dict with data and labels"),
        ({b"data": random_images()}, "holds no dict with data and labels"),
        ({b"data": random_images()[:, 1:], b"labels": [0] * 4}, r"data is no array uint8 \[N, 3072\]"),
        ({b"data": random_images().astype(np.int16), b"labels": [0] * 4}, "data is no array uint8"),
        ({b"data": random_images(), b"labels": [0] * 3}, "labels are not 4 whole numbers"),
        ({b"data": random_images(), b"labels": [0, 1, 2, 2.5]}, "labels are not 4 whole numbers"),
        ({b"data": random_images(), b"labels": [0, 1, 2, -1]}, "image 3 has class -1"),
    ],
)
def test_batches_that_are_none_are_refused(batch: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        CIFAR10_SET.read_python(write(tmp_path / "file", pickle.dumps(batch, 3)))
