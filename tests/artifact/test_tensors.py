import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors
import safetensors.numpy

from spikenm_compile.artifact.tensors import DTYPES, read_metadata, read_tensors, write_tensors
from spikenm_compile.errors import ArtifactError

SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (3,), (2, 0, 5), (4, 3, 2, 1), (7, 9))


def sample() -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(0)
    found: dict[str, npt.NDArray[Any]] = {}
    for name, dtype in DTYPES.items():
        for shape in SHAPES:
            values = np.asarray(rng.integers(0, 2, shape) if dtype == np.bool_ else rng.integers(0, 100, shape))
            found[f"{name}{shape}"] = values.astype(dtype)
    return found


def assert_equal(actual: dict[str, npt.NDArray[Any]], expected: dict[str, npt.NDArray[Any]]) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        assert actual[name].shape == array.shape, name
        np.testing.assert_array_equal(actual[name], array)


def raw(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_round_trip_through_our_own_reader(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, sample(), {"b": "2", "a": "é"})
    assert_equal(read_tensors(path), sample())
    assert read_metadata(path) == {"a": "é", "b": "2"}


def test_the_safetensors_library_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, sample(), {"format": "np"})
    assert_equal(safetensors.numpy.load_file(path), sample())
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"format": "np"}


def test_we_read_what_the_safetensors_library_writes(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(sample(), path, {"format": "np"})
    assert_equal(read_tensors(path), sample())
    assert read_metadata(path) == {"format": "np"}


def test_bytes_do_not_depend_on_the_order_or_the_layout_of_the_arrays(tmp_path: Path) -> None:
    tensors: dict[str, npt.NDArray[Any]] = {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4),
        "b": np.arange(3, dtype=np.int8),
    }
    turned: dict[str, npt.NDArray[Any]] = {"b": tensors["b"], "a": np.asfortranarray(tensors["a"]).astype(">f4")}
    write_tensors(tmp_path / "1", tensors)
    write_tensors(tmp_path / "2", turned)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_data_start_at_64_bytes_and_each_tensor_at_its_element(tmp_path: Path) -> None:
    path = tmp_path / "w"
    write_tensors(path, sample())
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert (8 + length) % 64 == 0
    header = json.loads(content[8 : 8 + length])
    assert all(item["data_offsets"][0] % DTYPES[item["dtype"]].itemsize == 0 for item in header.values())


def test_arrays_can_be_written_to(tmp_path: Path) -> None:
    write_tensors(tmp_path / "w", {"a": np.zeros(3, np.float32)})
    read_tensors(tmp_path / "w")["a"][:] = 1


def test_empty_file_of_tensors(tmp_path: Path) -> None:
    write_tensors(tmp_path / "w", {})
    assert read_tensors(tmp_path / "w") == {}
    assert read_metadata(tmp_path / "w") == {}


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w"
    write_tensors(path, {"a": np.arange(5, dtype=np.int16), "b": np.ones(3, np.bool_)})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=r"w: .* (build|damaged)"):
            read_tensors(path)


def test_a_byte_too_many_is_refused(tmp_path: Path) -> None:
    path = raw(tmp_path / "w", {"a": entry("U8", [2], 0, 2)}, b"123")
    with pytest.raises(ArtifactError, match="describes 2 bytes of data, but 3 are there"):
        read_tensors(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"w: cannot be read \(No such file or directory\); copy or build"):
        read_tensors(tmp_path / "w")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{", "its header is not JSON"),
        (b"\xff\xff", "its header is not JSON"),
        (b'{"a": 1, "a": 2}', "a name occurs twice"),
        (b"[" * 100_000, "its header is not JSON"),
        (b"[]", "its header is not a JSON object"),
        ({"a": 3}, "field 'a' is 3; an object is expected"),
        ({"a": {"dtype": "U8", "shape": [4]}}, r"field 'a.data_offsets' is missing"),
        ({"a": {**entry("U8", [4], 0, 4), "extra": 1}}, r"field 'a.extra' is unknown"),
        ({"a": entry("F16", [2], 0, 4)}, "'a' has dtype F16; supported: F64"),
        ({"a": {**entry("U8", [4], 0, 4), "data_offsets": [4]}}, "two whole numbers is expected"),
        ({"a": {**entry("U8", [4], 0, 4), "data_offsets": [0, True]}}, "whole numbers >= 0 is expected"),
        ({"a": entry("U8", [-4], 0, 4)}, "whole numbers >= 0 is expected"),
        ({"a": entry("U8", [5], 0, 4)}, r"'a' U8\[5\] takes 5 bytes, but spans 0 to 4"),
        ({"a": entry("U8", [2**40, 2**40], 0, 4)}, "but spans 0 to 4"),
        ({"a": entry("U8", [4], 4, 0)}, "takes 4 bytes, but spans 4 to 0"),
        ({"a": entry("U8", [3], 0, 3), "b": entry("U8", [2], 2, 4)}, "'b' begins at byte 2 of the data, not at 3"),
        ({"a": entry("U8", [1], 0, 1), "b": entry("U8", [2], 2, 4)}, "'b' begins at byte 2 of the data, not at 1"),
        ({"a": entry("U8", [8], 0, 8)}, "describes 8 bytes of data, but 4 are there"),
        ({"a": entry("BOOL", [4], 0, 4)}, "'a' is BOOL and holds bytes other than 0 and 1"),
    ],
)
def test_damaged_headers(tmp_path: Path, header: object, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        read_tensors(raw(tmp_path / "w", header, b"\x00\x01\x02\x03"))


def test_length_beyond_the_file(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(ArtifactError, match=f"its header says {2**63} bytes, but the file has 10"):
        read_tensors(tmp_path / "w")


def test_metadata_must_be_text(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"field '__metadata__.a' is 1; text is expected"):
        read_metadata(raw(tmp_path / "w", {"__metadata__": {"a": 1}}))


def test_dtypes_that_cannot_be_written(tmp_path: Path) -> None:
    for dtype in ("f2", "c8", "M8[s]", "U3", "O"):
        with pytest.raises(ArtifactError, match=r"tensor 'a' has dtype .*; supported: F64.*; convert it"):
            write_tensors(tmp_path / "w", {"a": np.zeros(2, np.dtype(dtype))})
    with pytest.raises(ArtifactError, match="no tensor may be named __metadata__"):
        write_tensors(tmp_path / "w", {"__metadata__": np.zeros(2, np.int8)})
    assert not (tmp_path / "w").exists()


def test_special_floats_survive(tmp_path: Path) -> None:
    values = np.array([math.inf, -math.inf, -0.0, 1e-45, math.nan], np.float32)
    write_tensors(tmp_path / "w", {"a": values})
    assert read_tensors(tmp_path / "w")["a"].tobytes() == values.tobytes()
