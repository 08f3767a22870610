"""Which CPU description a machine satisfies."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikenm_compile.errors import TargetError
from spikenm_compile.targets.cpu import (
    AARCH64,
    CPUS,
    EDGE_CPUS,
    X86_64_V2,
    X86_64_V3,
    X86_64_V4,
    Cpu,
    cpu_flags,
    detect,
)

V2 = frozenset(["fpu", "cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3", "xsave"])
V3 = V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}
V4 = V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl", "avx512_vnni"}


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", V4, X86_64_V4),
        ("x86_64", V3, X86_64_V3),
        ("x86_64", V2, X86_64_V2),
        ("x86_64", V4 - {"avx512bw"}, X86_64_V3),
        ("x86_64", V4 - {"fma"}, X86_64_V2),
        ("aarch64", frozenset({"fp", "asimd", "evtstrm"}), AARCH64),
    ],
    ids=["v4", "v3", "v2", "a part of AVX-512", "AVX2 without FMA", "aarch64"],
)
def test_the_best_description_that_fits(machine: str, flags: frozenset[str], expected: Cpu) -> None:
    assert detect(machine, flags) == expected


@pytest.mark.parametrize(
    ("machine", "flags"),
    [
        ("x86_64", V2 - {"sse4_1"}),
        ("x86_64", frozenset()),
        ("aarch64", V4),
        ("aarch64", frozenset({"fp"})),
        ("riscv64", V4),
        ("arm64", frozenset({"asimd"})),
    ],
)
def test_a_machine_that_none_fits_is_told_of_onnx(machine: str, flags: frozenset[str]) -> None:
    message = f"this machine is '{machine}' and lacks the vector units .*, so build with --target onnx"
    with pytest.raises(TargetError, match=message):
        detect(machine, flags)


def test_every_level_of_an_architecture_has_all_features_of_the_next() -> None:
    assert set(X86_64_V4.features) > set(X86_64_V3.features) > set(X86_64_V2.features)
    assert len({cpu.name for cpu in CPUS}) == len(CPUS)


def test_potentials_and_sums_of_a_tile_fit_the_stack_s_arrays() -> None:
    assert all(cpu.tile_width % 8 == 0 and 4 * cpu.tile_width < 1024 for cpu in (*CPUS, *EDGE_CPUS))


def test_tvm_s_description() -> None:
    assert X86_64_V3.tvm_target == {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v3"}
    assert AARCH64.tvm_target["mattr"] == ["+neon"]


def test_flags_are_those_of_the_first_core(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert cpu_flags(file) == {"fpu", "avx2"}
    file.write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert cpu_flags(file) == {"fp", "asimd"}
    file.write_text("processor\t: 0\n")
    assert cpu_flags(file) == frozenset()
    assert cpu_flags(tmp_path / "absent") == frozenset()


def test_this_machine_has_what_it_is_said_to_have() -> None:
    assert cpu_flags().issuperset(detect().features)
