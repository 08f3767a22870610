import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spikenm_compile.artifact.manifest import (
    InputSpec,
    LayerReport,
    Manifest,
    OutputSpec,
    is_plain_name,
    read_manifest,
    to_bytes,
)
from spikenm_compile.errors import ArtifactError


@pytest.fixture
def manifest() -> Manifest:
    layer = LayerReport("fc", "linear", (4, 8, 1, 1), "2:4", 16, 32, 21, 32, "lists", "one group in two is silent")
    return Manifest(
        producer="spikenm-compile 0.1.0",
        name="größe",
        target="cpu",
        pattern="2:4",
        num_steps=4,
        input=InputSpec((8,), False, "0..255 × 0.5"),
        output=OutputSpec((4,), False),
        layers=(layer,),
        code={"kind": "native", "max_steps": 4},
    )


def write(path: Path, manifest: Manifest) -> Path:
    path.write_bytes(to_bytes(manifest))
    return path


def write_fields(path: Path, content: object) -> Path:
    """Any JSON under a digest that is right."""
    body = json.dumps(content, indent=2)[2:]
    blank = '{\n  "digest": "' + "0" * 64 + '",\n' + body
    digest = hashlib.sha256(blank.encode()).hexdigest()
    path.write_text(blank.replace("0" * 64, digest, 1))
    return path


def fields_of(manifest: Manifest) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(to_bytes(manifest))
    del content["digest"]
    return content


def test_round_trip(tmp_path: Path, manifest: Manifest) -> None:
    manifest = replace(manifest, files={"model.so": "ab" * 32})
    actual = read_manifest(write(tmp_path / "manifest.json", manifest))
    assert len(actual.digest) == 64
    assert replace(actual, digest="") == manifest


def test_layout_is_sorted_after_the_digest(manifest: Manifest) -> None:
    text = to_bytes(manifest).decode()
    assert text.startswith('{\n  "digest": "')
    names = list(json.loads(text))
    assert names[0] == "digest"
    assert names[1:] == sorted(names[1:])
    assert '"schema_version": 2' in text
    assert text.endswith("}\n")
    assert to_bytes(manifest) == to_bytes(replace(manifest, code=dict(reversed(list(manifest.code.items())))))


def test_every_flipped_byte_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    path = tmp_path / "manifest.json"
    content = to_bytes(manifest)
    for i in range(len(content)):
        for flip in (0x01, 0x20, 0x80):
            path.write_bytes(content[:i] + bytes([content[i] ^ flip]) + content[i + 1 :])
            with pytest.raises(ArtifactError, match=r"manifest\.json was altered or truncated"):
                read_manifest(path)


def test_every_truncation_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    path = tmp_path / "manifest.json"
    content = to_bytes(manifest)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match="altered or truncated"):
            read_manifest(path)


@pytest.mark.parametrize(("version", "advice"), [(3, "install a newer"), (1, "build the artifact again")])
def test_unknown_schema_version(tmp_path: Path, manifest: Manifest, version: int, advice: str) -> None:
    path = write_fields(tmp_path / "manifest.json", {**fields_of(manifest), "schema_version": version})
    with pytest.raises(ArtifactError, match=f"has schema version {version}; this program reads version 2; {advice}"):
        read_manifest(path)


def test_not_json_under_a_right_digest(tmp_path: Path) -> None:
    blank = b'{\n  "digest": "' + b"0" * 64 + b'",\n'
    (tmp_path / "m").write_bytes(blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode()))
    with pytest.raises(ArtifactError, match="is not JSON"):
        read_manifest(tmp_path / "m")


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"has no readable manifest\.json \(No such file"):
        read_manifest(tmp_path / "manifest.json")


TOP = [
    "producer",
    "name",
    "target",
    "pattern",
    "num_steps",
    "input",
    "output",
    "layers",
    "code",
    "arithmetic",
    "why",
    "files",
    "schema_version",
]
INPUT, OUTPUT = ["shape", "per_step", "levels"], ["shape", "per_step"]
LAYER = ["name", "kind", "shape", "pattern", "nonzeros", "weights", "bytes_packed", "bytes_dense", "kernel", "why"]
PATHS = [
    *((name,) for name in TOP),
    *(("input", name) for name in INPUT),
    *(("output", name) for name in OUTPUT),
    *(("layers", 0, name) for name in LAYER),
    ("code", "kind"),
]


def parent_of(content: Any, path: tuple[str | int, ...]) -> Any:
    for key in path[:-1]:
        content = content[key]
    return content


def label(path: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in path).replace(".0.", r"\[0\].")


@pytest.mark.parametrize("path", PATHS, ids=label)
def test_each_field_is_needed_and_typed(tmp_path: Path, manifest: Manifest, path: tuple[str | int, ...]) -> None:
    content = fields_of(manifest)
    parent_of(content, path)[path[-1]] = 1.5
    with pytest.raises(ArtifactError, match=rf"manifest\.json: field '{label(path)}' is 1\.5; .* is expected"):
        read_manifest(write_fields(tmp_path / "manifest.json", content))
    del parent_of(content, path)[path[-1]]
    with pytest.raises(ArtifactError, match=f"field '{label(path)}' is missing"):
        read_manifest(write_fields(tmp_path / "manifest.json", content))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("num_steps",), 0),
        (("num_steps",), True),
        (("input", "shape"), [0]),
        (("input", "shape"), ["8"]),
        (("input", "per_step"), 1),
        (("arithmetic",), "int4"),
        (("layers", 0, "kind"), "pool"),
        (("layers",), [3]),
        (("files", "../x"), "0" * 64),
        (("files", "manifest.json"), "0" * 64),
        (("files", "a"), "0" * 63),
        (("files", "a"), "G" * 64),
    ],
)
def test_values_out_of_range(tmp_path: Path, manifest: Manifest, path: tuple[str | int, ...], value: object) -> None:
    content = fields_of(manifest)
    parent_of(content, path)[path[-1]] = value
    with pytest.raises(ArtifactError, match="is expected; build the artifact again"):
        read_manifest(write_fields(tmp_path / "manifest.json", content))


@pytest.mark.parametrize("section", [(), ("input",), ("output",), ("layers", 0)])
def test_unknown_fields(tmp_path: Path, manifest: Manifest, section: tuple[str | int, ...]) -> None:
    content = fields_of(manifest)
    parent_of(content, (*section, "colour"))["colour"] = 1
    with pytest.raises(ArtifactError, match="colour' is unknown; known here: "):
        read_manifest(write_fields(tmp_path / "manifest.json", content))


def test_long_values_are_cut_in_errors(tmp_path: Path, manifest: Manifest) -> None:
    content = {**fields_of(manifest), "name": ["x" * 1000]}
    with pytest.raises(ArtifactError) as info:
        read_manifest(write_fields(tmp_path / "manifest.json", content))
    assert "x..." in str(info.value)
    assert len(str(info.value)) < 400


def test_infinite_numbers_are_written_as_text(tmp_path: Path, manifest: Manifest) -> None:
    code = {"kind": "onnx", "states": ({"init": -math.inf},), "x": [math.nan, math.inf, 0.5]}
    actual = read_manifest(write(tmp_path / "m", replace(manifest, code=code)))
    assert actual.code == {"kind": "onnx", "states": [{"init": "-inf"}], "x": ["nan", "inf", 0.5]}


@pytest.mark.parametrize("name", ["a/b", "..", ".", "", "a\\b", "C:x", "a\n", "manifest.json"])
def test_names_that_are_not_plain(name: str) -> None:
    assert not is_plain_name(name)


def test_plain_names() -> None:
    assert is_plain_name("weights.safetensors")
    assert is_plain_name("..a")
