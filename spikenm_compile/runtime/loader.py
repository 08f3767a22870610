"""Open an artifact as a model, whatever the kind of its code."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from spikenm_compile.artifact.directory import read_artifact
from spikenm_compile.errors import InputError, TargetError
from spikenm_compile.runtime.model import Model


def load(path: str | PathLike[str], *, threads: int = 1) -> Model:
    """Check the artifact at `path` and make it ready to run.

    Args:
        path: the directory that build wrote.
        threads: native code runs that many samples of a batch at a time; ONNX Runtime gets that many threads; a GPU
            needs none.

    Raises:
        ArtifactError: the artifact is incomplete or altered.
        TargetError: this machine cannot run it, or its code is of a kind that Python cannot run.
        ToolError: a package that it needs is missing.
        InputError: threads < 1.
    """
    if threads < 1:
        raise InputError(f"threads={threads} cannot run anything; give threads >= 1")
    artifact = read_artifact(Path(path))
    kind = artifact.manifest.code["kind"]
    if kind == "native":
        from spikenm_compile.runtime.native import NativeModel

        return NativeModel(artifact, threads=threads)
    if kind == "c_library":
        from spikenm_compile.runtime.c_library import CLibraryModel

        return CLibraryModel(artifact, threads=threads)
    if kind == "c_sources":
        raise TargetError(
            f"artifact '{path}' holds C sources, which Python cannot run; its CMakeLists.txt builds them, verify "
            "compiles and proves them here, and target native is for Python"
        )
    if kind == "onnx":
        from spikenm_compile.runtime.onnx import OnnxModel

        return OnnxModel(artifact, threads=threads)
    if kind == "onnx-step":
        from spikenm_compile.runtime.onnx_float import OnnxStepModel

        return OnnxStepModel(artifact, threads=threads)
    if kind == "onnx-whole":
        from spikenm_compile.runtime.onnx_float import OnnxWholeModel

        return OnnxWholeModel(artifact, threads=threads)
    if kind == "cuda":
        from spikenm_compile.runtime.cuda import CudaModel

        return CudaModel(artifact)
    raise TargetError(
        f"artifact '{path}' holds code of kind '{kind}'; Python runs native, c_library, onnx and cuda; "
        "build it for another target"
    )
