from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spikenm_compile.artifact import directory
from spikenm_compile.artifact.directory import Artifact, read_artifact, write_artifact
from spikenm_compile.artifact.manifest import InputSpec, Manifest, OutputSpec
from spikenm_compile.artifact.tensors import write_tensors
from spikenm_compile.errors import ArtifactError

Fill = Callable[[Path], Manifest]


@pytest.fixture
def fill() -> Fill:
    def fill(directory: Path) -> Manifest:
        (directory / "model.so").write_bytes(bytes(range(200)))
        write_tensors(directory / "weights.safetensors", {"fc.values": np.arange(16, dtype=np.int8)})
        return Manifest(
            "test",
            "größe",
            "cpu",
            None,
            4,
            InputSpec((8,), False, "real"),
            OutputSpec((4,), False),
            (),
            {"kind": "native"},
        )

    return fill


@pytest.fixture
def artifact(tmp_path: Path, fill: Fill) -> Artifact:
    return write_artifact(tmp_path / "digits", fill)


def snapshot(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


def test_round_trip(artifact: Artifact) -> None:
    actual = read_artifact(artifact.path)
    assert actual == artifact
    assert sorted(actual.manifest.files) == ["model.so", "weights.safetensors"]


def test_nothing_but_the_artifact_is_left(artifact: Artifact) -> None:
    assert [entry.name for entry in artifact.path.parent.iterdir()] == ["digits"]


def test_two_builds_are_equal(tmp_path: Path, artifact: Artifact, fill: Fill) -> None:
    other = write_artifact(tmp_path / "deep" / "er" / "other", fill)
    assert snapshot(other.path) == snapshot(artifact.path)


def test_directory_has_usual_permissions(tmp_path: Path, artifact: Artifact) -> None:
    (tmp_path / "plain").mkdir()
    assert artifact.path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_flipped_bytes_in_every_file(artifact: Artifact) -> None:
    for path in sorted(artifact.path.iterdir()):
        content = path.read_bytes()
        for i in {0, 1, 7, 8, len(content) // 3, len(content) // 2, len(content) - 2, len(content) - 1}:
            path.write_bytes(content[:i] + bytes([content[i] ^ 0x10]) + content[i + 1 :])
            with pytest.raises(ArtifactError, match=f"{path.name} was altered or truncated"):
                read_artifact(artifact.path)
        path.write_bytes(content)
    read_artifact(artifact.path)


def test_truncated_files(artifact: Artifact) -> None:
    for path in sorted(artifact.path.iterdir()):
        content = path.read_bytes()
        for length in (0, 1, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            with pytest.raises(ArtifactError, match=f"{path.name} was altered or truncated"):
                read_artifact(artifact.path)
        path.write_bytes(content + b"\0")
        with pytest.raises(ArtifactError, match=f"{path.name} was altered or truncated"):
            read_artifact(artifact.path)
        path.write_bytes(content)


def test_missing_files(artifact: Artifact) -> None:
    (artifact.path / "model.so").rename(artifact.path.parent / "aside")
    with pytest.raises(ArtifactError, match=r"lacks its file 'model\.so'; copy or build the artifact again"):
        read_artifact(artifact.path)
    (artifact.path / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"has no readable manifest\.json"):
        read_artifact(artifact.path)


def test_unlisted_files(artifact: Artifact) -> None:
    (artifact.path / "notes.txt").touch()
    with pytest.raises(ArtifactError, match=r"holds 'notes\.txt', which its manifest\.json does not list; .* move it"):
        read_artifact(artifact.path)


def test_paths_that_are_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="file' is a file; an artifact is a directory"):
        read_artifact(tmp_path / "file")
    with pytest.raises(ArtifactError, match="none' does not exist; an artifact is a directory"):
        read_artifact(tmp_path / "none")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("exists", [False, True])
def test_a_failing_fill_changes_nothing(tmp_path: Path, fill: Fill, error: type[BaseException], exists: bool) -> None:
    out = tmp_path / "digits"
    if exists:
        write_artifact(out, fill)
    before = snapshot(out) if exists else {}

    def failing(partial: Path) -> Manifest:
        fill(partial)
        (partial / "model.so").write_bytes(b"new")
        raise error

    with pytest.raises(error):
        write_artifact(out, failing)
    assert [entry.name for entry in tmp_path.iterdir()] == (["digits"] if exists else [])
    assert (snapshot(out) if exists else {}) == before


def test_a_failing_rename_brings_the_old_artifact_back(
    artifact: Artifact, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(artifact.path)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(KeyboardInterrupt):
        write_artifact(artifact.path, fill)
    assert [entry.name for entry in artifact.path.parent.iterdir()] == ["digits"]
    assert snapshot(artifact.path) == before


def test_the_old_artifact_is_whole_until_the_new_one_is(artifact: Artifact, fill: Fill) -> None:
    def watching(partial: Path) -> Manifest:
        assert read_artifact(artifact.path) == artifact
        assert partial.parent == artifact.path.parent
        assert partial.name.startswith(".digits.")
        assert partial.name.endswith(".partial")
        manifest = fill(partial)
        (partial / "model.so").write_bytes(b"new")
        return manifest

    write_artifact(artifact.path, watching)
    read_artifact(artifact.path)
    assert (artifact.path / "model.so").read_bytes() == b"new"
    assert [entry.name for entry in artifact.path.parent.iterdir()] == ["digits"]


@pytest.mark.parametrize("content", ["photo.png", "manifest.json"])
def test_foreign_directories_are_never_touched(tmp_path: Path, fill: Fill, content: str) -> None:
    out = tmp_path / "home"
    out.mkdir()
    (out / content).write_text("mine")
    with pytest.raises(ArtifactError, match="home' exists and is not an artifact; only an artifact is replaced; give"):
        write_artifact(out, fill)
    assert [entry.name for entry in out.iterdir()] == [content]


def test_an_empty_directory_is_filled(tmp_path: Path, fill: Fill) -> None:
    (tmp_path / "home").mkdir()
    artifact = write_artifact(tmp_path / "home", fill)
    assert read_artifact(artifact.path).manifest == artifact.manifest
    assert [entry.name for entry in tmp_path.iterdir()] == ["home"]


def test_a_file_in_the_way(tmp_path: Path, fill: Fill) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ArtifactError, match="out' exists and is not an artifact"):
        write_artifact(tmp_path / "out", fill)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_directory_that_appears_meanwhile_is_not_replaced(tmp_path: Path, fill: Fill) -> None:
    def slow(partial: Path) -> Manifest:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").touch()
        return fill(partial)

    with pytest.raises(ArtifactError, match="is not an artifact"):
        write_artifact(tmp_path / "out", slow)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["manifest.json", "folder/", "link", "a:b"])
def test_what_an_artifact_cannot_hold(tmp_path: Path, fill: Fill, name: str) -> None:
    def wrong(partial: Path) -> Manifest:
        path = partial / name
        if name.endswith("/"):
            path.mkdir()
        elif name == "link":
            path.symlink_to(tmp_path)
        else:
            path.touch()
        return fill(partial)

    with pytest.raises(ArtifactError, match=f"cannot hold '{name.strip('/')}'; plain files"):
        write_artifact(tmp_path / "out", wrong)
    assert list(tmp_path.iterdir()) == []


def test_large_files_are_hashed_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0" * 300_000)
    (tmp_path / "b").write_bytes(b"\0" * 299_999 + b"\1")
    assert directory._sha256(tmp_path / "a") != directory._sha256(tmp_path / "b")
