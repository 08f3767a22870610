"""C code that asks the CPU for the features that a library uses, without a call of anything but Linux' getauxval."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent

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

HWCAP_BITS: dict[str, dict[str, int]] = {
    "aarch64": {"asimd": 1, "atomics": 8, "fphp": 9, "asimdhp": 10, "asimdrdm": 12, "asimddp": 20},
    "armv7l": {"neon": 12},
}
"""Machine -> feature -> bit of AT_HWCAP (Linux, arch/arm64 and arch/arm, uapi/asm/hwcap.h)."""


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
    if machine in HWCAP_BITS:
        return CpuCheck(_arm(HWCAP_BITS[machine], features), ", ".join(features))
    return CpuCheck("static int has_cpu_features(void) { return 1; }\n", "something")


def _arm(bits: dict[str, int], features: tuple[str, ...]) -> str:
    wanted = " | ".join(f"1ul << {bits[feature]} /* {feature} */" for feature in features)
    return dedent(f"""\
        /* Linux says what the CPU has; elsewhere it is what the program was built for. */
        #if defined(__linux__)
        unsigned long getauxval(unsigned long type); /* sys/auxv.h, since glibc 2.16 */

        static int has_cpu_features(void)
        {{
            const unsigned long at_hwcap = 16, wanted = {wanted};
            return (getauxval(at_hwcap) & wanted) == wanted;
        }}
        #else
        static int has_cpu_features(void) {{ return 1; }}
        #endif
        """)


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
