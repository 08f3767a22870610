"""What this machine can build and run, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys

from spikenm_compile.errors import SpikenmError
from spikenm_compile.report.table import format_table
from spikenm_compile.runtime.cuda_driver import Device, Driver
from spikenm_compile.targets.cpu import EDGE_CPUS, KIB, Cpu, detect
from spikenm_compile.targets.cross import find_toolchain
from spikenm_compile.targets.cuda_toolkit import find_toolkit, missing_toolkit
from spikenm_compile.targets.linker import find_compiler
from spikenm_compile.targets.toolchain import PINNED, installed, smoke_test

PACKAGES = ("torch", "numpy", "onnx", "onnxruntime", "onnxscript", "safetensors", "rich")
OPTIONAL = {
    "scikit-learn": "the demo's digits",
    "spikingjelly": "SpikingJelly models",
    "snntorch": "snnTorch models",
    "norse": "Norse models",
    "sinabs": "sinabs models",
    "nir": "NIR files",
}
EMULATORS = {"qemu-aarch64": "64-bit ARM programs", "qemu-arm": "32-bit ARM programs"}
"""What tests of C libraries run with where the machine is another one."""

"""Tools that targets to come will use; nothing needs them yet."""


def examine() -> str:
    """A table of everything looked at."""
    rows: list[tuple[str, str, str]] = [("python", "ok", platform.python_version())]
    rows += [_package(name, required=True) for name in PACKAGES]
    rows += [_package(name, required=False) for name in OPTIONAL]
    rows += [_tvm(), _compiler(), _cpu(), _cuda_compiler(), _gpu()]
    rows += [_c_library(cpu) for cpu in EDGE_CPUS]
    rows += [(tool, "ok" if shutil.which(tool) else "absent", f"runs {use} here") for tool, use in EMULATORS.items()]
    return format_table(("what", "state", "detail"), rows)


def _package(name: str, *, required: bool) -> tuple[str, str, str]:
    version = installed(name)
    if version is not None:
        return name, "ok", version
    return (name, "MISSING", f"run pip install {name}") if required else (name, "absent", f"only for {OPTIONAL[name]}")


def _tvm() -> tuple[str, str, str]:
    try:
        smoke_test()
    except SpikenmError as error:
        return "apache-tvm", "BROKEN", str(error)
    pair = ", ".join(f"{package} {installed(package)}" for package in PINNED)
    return "apache-tvm", "ok", f"{pair}: smoke test passed"


def _compiler() -> tuple[str, str, str]:
    found, chosen = find_compiler(), os.environ.get("CC")
    if found:
        return "C compiler", "ok", found
    lacking = f"CC={chosen} is not there; unset CC, or " if chosen else ""
    return "C compiler", "MISSING", f"{lacking}install gcc or clang to build native code"


def _c_library(cpu: Cpu) -> tuple[str, str, str]:
    toolchain = find_toolchain(cpu)
    size = f"{cpu.vector_bits}-bit vectors, caches {cpu.l1_bytes // KIB} and {cpu.l2_bytes // KIB} KiB"
    if toolchain is not None:
        return f"target {cpu.name}", "ok", f"{size}; linked by {toolchain}"
    return (
        f"target {cpu.name}",
        "no linker",
        f"{size}; {cpu.gnu_triple}-gcc, clang or pip install ziglang links it here",
    )


def _cuda_compiler() -> tuple[str, str, str]:
    toolkit = find_toolkit()
    if toolkit is None:
        return "CUDA compiler", "absent", f"only for target cuda: {missing_toolkit()}"
    try:
        return "CUDA compiler", "ok", f"{toolkit.nvcc}, release {toolkit.version()}"
    except SpikenmError as error:
        return "CUDA compiler", "BROKEN", str(error)


def _gpu() -> tuple[str, str, str]:
    try:
        driver = Driver()
        gpus = [Device(driver, number) for number in range(driver.num_devices())]
    except SpikenmError as error:
        return "NVIDIA GPU", "absent", f"only to run target cuda: {error}"
    names = [f"{gpu.name} ({gpu.capability[0]}.{gpu.capability[1]})" for gpu in gpus]
    return "NVIDIA GPU", "ok", f"{', '.join(names)}; driver for CUDA {driver.version()[0]}.{driver.version()[1]}"


def _cpu() -> tuple[str, str, str]:
    try:
        cpu = detect()
    except SpikenmError as error:
        return "CPU", "unsupported", str(error)
    return (
        "CPU",
        "ok",
        f"{cpu.name}: {cpu.vector_bits}-bit vectors, tiles of {cpu.tile_width} outputs ({sys.platform})",
    )
