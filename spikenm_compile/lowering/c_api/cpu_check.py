"""C code that asks the CPU for the features that a library uses, without a call of any function."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

X86_BITS: dict[str, tuple[int, str, int]] = {
    "cx16": (1, "ecx", 13),
    "ssse3": (1, "ecx", 9),
    "sse4_1": (1, "ecx", 19),
    "sse4_2": (1, "ecx", 20),
    "movbe": (1, "ecx", 22),
    "popcnt": (1, "ecx", 23),
    "xsave": (1, "ecx", 27),
    "avx": (1, "ecx", 28),
    "f16c": (1, "ecx", 29),
    "fma": (1, "ecx", 12),
    "bmi1": (7, "ebx", 3),
    "avx2": (7, "ebx", 5),
    "bmi2": (7, "ebx", 8),
    "avx512f": (7, "ebx", 16),
    "avx512dq": (7, "ebx", 17),
    "avx512cd": (7, "ebx", 28),
    "avx512bw": (7, "ebx", 30),
    "avx512vl": (7, "ebx", 31),
    "lahf_lm": (0x80000001, "ecx", 0),
    "abm": (0x80000001, "ecx", 5),
}
"""Feature -> CPUID leaf, register, bit (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E)."""

XCR0_AVX, XCR0_AVX512 = 0x6, 0xE6
"""Register states that the system must save (Intel SDM volume 1, 13.3)."""

ARM_FIELDS: dict[str, tuple[str, int, int]] = {
    "fphp": ("ID_AA64PFR0_EL1", 16, 1),
    "asimdhp": ("ID_AA64PFR0_EL1", 20, 1),
    "atomics": ("ID_AA64ISAR0_EL1", 20, 2),
    "asimdrdm": ("ID_AA64ISAR0_EL1", 28, 1),
    "asimddp": ("ID_AA64ISAR0_EL1", 44, 1),
}
"""Feature -> ID register, lowest bit of its field of four, least value there (Arm Architecture Reference Manual for
A-profile, D19.2; Linux, arch/arm64/elf_hwcaps, gives the same). Without `asimd`, which every 64-bit Linux needs."""

NEON_CHECK = "neon_check.c.in"
"""The check for ARMv7, beside this file."""


@dataclass(frozen=True)
class CpuCheck:
    """Text for model.c."""

    code: str
    """Defines `static int has_cpu_features(void)`."""
    features: str
    """For the sentence of the error."""


def cpu_check(machine: str, features: tuple[str, ...]) -> CpuCheck:
    """The check for a machine, as `uname -m` names it; any other machine than x86 and ARM has none."""
    if machine == "x86_64":
        return CpuCheck(_x86(features), ", ".join(features))
    if machine == "aarch64" and not ARM_FIELDS.keys().isdisjoint(features):
        return CpuCheck(_aarch64(features), ", ".join(features))
    if machine == "armv7l":
        return CpuCheck((Path(__file__).parent / NEON_CHECK).read_text(), ", ".join(features))
    return CpuCheck("static int has_cpu_features(void) { return 1; }\n", "something")


def _aarch64(features: tuple[str, ...]) -> str:
    fields = {feature: ARM_FIELDS[feature] for feature in features if feature in ARM_FIELDS}
    registers = sorted({register for register, *_ in fields.values()})
    names = {register: register.split("_")[1].lower() for register in registers}
    reads = [f'__asm__("mrs %0, {register}" : "=r"({name}));' for register, name in names.items()]
    tests = [
        f"has_field({names[register]}, {bit}, {least}) /* {feature} */"
        for feature, (register, bit, least) in fields.items()
    ]
    return _AARCH64.format(
        names=", ".join(names.values()), reads="\n    ".join(reads), tests="\n        && ".join(tests)
    )


_AARCH64 = """\
/* Linux answers a program that reads an ID register, since 4.11 (Documentation/arch/arm64/cpu-feature-registers), for
 * all cores together. Elsewhere the CPU is what the program was built for. */
#if defined(__linux__)
static int has_field(uint64_t id_register, int bit, uint64_t least)
{{
    const uint64_t field = id_register >> bit & 15;
    return field >= least && field != 15; /* 15: there is no floating point at all */
}}

static int has_cpu_features(void)
{{
    uint64_t {names};
    {reads}
    return {tests};
}}
#else
static int has_cpu_features(void) {{ return 1; }}
#endif
"""


def _x86(features: tuple[str, ...]) -> str:
    masks: dict[tuple[int, str], list[str]] = {}
    for feature in features:
        leaf, register, bit = X86_BITS[feature]
        masks.setdefault((leaf, register), []).append(f"1u << {bit} /* {feature} */")
    xcr0 = XCR0_AVX512 if "avx512f" in features else XCR0_AVX
    lines = [
        f"    if (!__get_cpuid_count({leaf:#x}, 0, &eax, &ebx, &ecx, &edx)) return 0;\n"
        f"    wanted = {' | '.join(bits)};\n"
        f"    if (({register} & wanted) != wanted) return 0;\n"
        for (leaf, register), bits in masks.items()
    ]
    check = "".join(lines)
    return (
        "#include <cpuid.h>\n\n"
        "static int has_cpu_features(void)\n{\n"
        "    unsigned int eax, ebx, ecx, edx, wanted;\n"
        f"{check}"
        "    /* The system saves the wide registers. Read last: the instruction is there if xsave is. */\n"
        '    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));\n'
        f"    return (eax & {xcr0:#x}u) == {xcr0:#x}u;\n}}\n"
    )
