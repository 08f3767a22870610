"""The carried network on microcontrollers in QEMU: Cortex-M4 with floating point unit, Cortex-M0 with 16 kB of RAM."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from spikenm_compile.artifact.directory import read_artifact
from spikenm_compile.artifact.tensors import read_tensors
from spikenm_compile.build import main as build_main
from spikenm_compile.build import make_parser
from spikenm_compile.report.memory import format_memory
from spikenm_compile.targets.footprint import CORTEX_M4
from spikenm_compile.targets.portable_c import SOURCES

EXAMPLE = Path(__file__).parents[2] / "examples" / "cortex_m"
GCC, QEMU = "arm-none-eabi-gcc", "qemu-system-arm"
FIRMWARE = ("-std=c99", "-Os", "-Wall", "-Wextra", "-Werror", "-ffunction-sections", "-fdata-sections")

pytestmark = pytest.mark.skipif(shutil.which(GCC) is None, reason=f"{GCC} is not there: make edge-tools installs it")


@dataclass(frozen=True)
class Board:
    """A machine of QEMU."""

    machine: str
    cpu: tuple[str, ...]
    flash_bytes: int
    ram_bytes: int


BOARDS = (
    Board("mps2-an386", CORTEX_M4, 2**20, 2**16),
    Board("microbit", ("-mcpu=cortex-m0", "-mthumb"), 2**18, 2**14),
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cortex-m") / "digits"
    assert build_main(["--target", "cortex-m", "--out", str(out)]) == 0
    return out


def firmware(artifact: Path, board: Board, out: Path, *flags: str) -> Path:
    """The example, linked for a board; a linker map beside it."""
    sizes = f"-Wl,--defsym=flash_bytes={board.flash_bytes},--defsym=ram_bytes={board.ram_bytes}"
    link = [f"-T{EXAMPLE / 'cortex_m.ld'}", sizes, f"-Wl,-Map={out}.map"]
    objects = []
    for source in (EXAMPLE / "startup.c", EXAMPLE / "main.c", *(artifact / source for source in SOURCES)):
        objects.append(str(out.with_name(f"{source.stem}.o")))
        include = [f"-I{artifact}", f"-I{EXAMPLE}"]
        subprocess.run([GCC, *board.cpu, *FIRMWARE, *include, "-c", str(source), "-o", objects[-1]], check=True)
    subprocess.run([GCC, *board.cpu, "-nostartfiles", *flags, *link, *objects, "-o", str(out)], check=True)
    return out


@pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"{QEMU} is not there: make edge-tools installs it")
@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.machine)
def test_a_microcontroller_gives_the_reference(built: Path, tmp_path: Path, board: Board) -> None:
    program = firmware(built, board, tmp_path / "firmware", "-Wl,--gc-sections")
    command = [QEMU, "-M", board.machine, "-nographic", "-semihosting-config", "enable=on,target=native", "-kernel"]
    done = subprocess.run([*command, program], capture_output=True, text=True, timeout=60, check=False)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert printed.endswith("equal to the reference bit for bit\n")
    expected = read_tensors(built / "vectors.safetensors")["output"]
    lines = re.findall(r"class (\d+), outputs ([\d ]+)\n", printed)
    assert len(lines) == 2
    for (number, words), output in zip(lines, expected, strict=False):
        assert np.array_equal(np.array(words.split(), np.uint32), output.view(np.uint32))
        assert int(number) == output.argmax()
    assert int(re.findall(r"stack (\d+) bytes", printed)[0]) < 512


@pytest.mark.parametrize("target", ["cortex-m", "c"])
def test_flash_and_ram_are_as_printed(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_main(["--target", target, "--out", str(tmp_path / "built")]) == 0
    line = re.search(r"flash: (\d+) bytes \((\d+) constants.*RAM: (\d+) bytes", capsys.readouterr().out)
    assert line is not None
    flash, _, ram = map(int, line.groups())
    placed = firmware(tmp_path / "built", BOARDS[0], tmp_path / "firmware").with_suffix(".map").read_text()
    sections = re.findall(SECTION, placed[placed.index("Linker script and memory map") :], re.MULTILINE)
    names = {f"{Path(source).stem}.o" for source in SOURCES}
    own = sum(int(size, 16) for kind, _, size, file in sections if kind != "bss" and Path(file).name in names)
    assert abs(own - flash) <= 0.05 * flash
    assert (
        sum(int(size, 16) for kind, name, size, _ in sections if kind == "bss" and name in (".arena", ".state")) == ram
    )


SECTION = r"^ \.(text|rodata|data|bss)([\w.]*)\n? +0x\w+ +(0x\w+) (\S+)$"
"""A section in the linker's map: kind, name, size, object file."""


DOCUMENT = (EXAMPLE.parents[1] / "docs" / "edge_microcontrollers.md").read_text()


@pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"{QEMU} is not there: make edge-tools installs it")
def test_the_commands_of_the_document(built: Path, tmp_path: Path) -> None:
    block = next(
        b for b in re.findall(r"^```\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE) if b.startswith("python")
    )
    build, *commands = block.splitlines()
    assert make_parser().parse_args(build.split()[3:]).target == "cortex-m"
    (tmp_path / "digits-m").symlink_to(built)
    (tmp_path / "examples").symlink_to(EXAMPLE.parent)
    for command in commands:
        done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout + done.stderr).endswith("equal to the reference bit for bit\n")


def test_the_figures_of_the_document(built: Path) -> None:
    line = next(line for line in DOCUMENT.splitlines() if line.startswith("flash:"))
    (flash, constants, _, *rest), (actual, same, _, *now) = (
        [int(number) for number in re.findall(r"\b\d+\b", text)]
        for text in (line, str(format_memory(read_artifact(built).manifest.code)))
    )
    assert [same, *now] == [constants, *rest]
    assert abs(actual - flash) <= 0.05 * flash, "another compiler writes other code, but not so much of it"
