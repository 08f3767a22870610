"""What generated C says of an ARM CPU, against Linux' own answer, under QEMU."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from edge_machines import machine

from spikenm_compile.lowering.c_api.cpu_check import ARM_FIELDS, cpu_check
from spikenm_compile.targets.cross import find_toolchain

HWCAP_BITS = {"atomics": 8, "fphp": 9, "asimdhp": 10, "asimdrdm": 12, "asimddp": 20, "neon": 12}
"""Linux, arch/arm64 and arch/arm, uapi/asm/hwcap.h."""

PROGRAM = """\
#include <stdint.h>
#include <stdio.h>
#include <sys/auxv.h>
{check}
int main(void)
{{
    printf("%d %d\\n", has_cpu_features(), (int)(getauxval(AT_HWCAP) >> {bit} & 1));
    return 0;
}}
"""


def answers(target: str, feature: str, folder: Path, cpus: tuple[str, ...], *flags: str) -> list[str]:
    """Of the check, and of Linux, for each CPU."""
    where = machine(target)
    toolchain = find_toolchain(where.cpu)
    assert toolchain is not None
    source, program = folder / "program.c", folder / "program"
    check = cpu_check(where.cpu.machine, (feature,)).code
    source.write_text(PROGRAM.format(check=check, bit=HWCAP_BITS[feature]))
    warnings = ("-std=c99", "-Wall", "-Wextra", "-Werror")
    subprocess.run([*toolchain.cc, *toolchain.cflags, *warnings, *flags, str(source), "-o", str(program)], check=True)
    return [machine(target, cpu).run(program).stdout.decode().strip() for cpu in cpus]


@pytest.mark.parametrize("feature", ARM_FIELDS)
def test_id_registers_say_what_linux_says(feature: str, tmp_path: Path) -> None:
    # An A64FX has all of them but the dot product.
    found = answers("cortex-a76", feature, tmp_path, ("cortex-a53", "a64fx", "cortex-a76"))
    assert found == ["0 0", "0 0" if feature == "asimddp" else "1 1", "1 1"]


@pytest.mark.parametrize("flags", [("-marm", "-O2"), ("-mthumb", "-O2"), ("-mthumb", "-O0", "-fno-omit-frame-pointer")])
def test_the_auxiliary_vector_says_whether_there_is_neon(flags: tuple[str, ...], tmp_path: Path) -> None:
    assert answers("armv7-neon", "neon", tmp_path, ("cortex-a9,neon=off", "cortex-a9"), *flags) == ["0 0", "1 1"]


def test_every_64_bit_linux_has_neon() -> None:
    assert "mrs" not in cpu_check("aarch64", ("asimd",)).code
