"""Target c: the artifact's sources compile anywhere and give what the reference gives, by the public functions too."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from c_networks import SANITIZED, STRICT, CNetwork
from edge_harness import build_sources, check_events, check_sequences
from edge_networks import NETWORKS
from small_networks import lower_graph, read_out
from step_graphs import StepGraphBuilder
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.build import main as build_main
from spikenm_compile.errors import TargetError, ToolError
from spikenm_compile.package import write_package
from spikenm_compile.passes.select_kernels import LEVEL_ROWS, SPIKE_ROWS
from spikenm_compile.pattern import Pattern
from spikenm_compile.runtime import load
from spikenm_compile.targets.portable_c import SOURCES, PortableC
from spikenm_compile.verification import verify

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

AARCH64 = "aarch64-linux-gnu-gcc"
FAMILIES = (SPIKE_ROWS, LEVEL_ROWS)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The carried network as C; not to be changed."""
    out = tmp_path_factory.mktemp("c") / "digits"
    assert build_main(["--target", "c", "--out", str(out)]) == 0
    return out


def compiled(
    artifact: Path,
    source: Path,
    executable: Path,
    *flags: str,
    compiler: str = "gcc",
    warnings: tuple[str, ...] = STRICT,
) -> Path:
    command = [compiler, *warnings, *flags, f"-I{artifact}", str(source), *(str(artifact / s) for s in SOURCES)]
    subprocess.run([*command, "-o", str(executable)], check=True)
    return executable


@pytest.mark.parametrize("flags", [SANITIZED, ("-O3", "-flto")], ids=["sanitized", "linked as one"])
def test_the_example_runs_the_test_vectors(digits: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    executable = compiled(digits, digits / "example_run.c", tmp_path / "run", *flags)
    done = subprocess.run([executable], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("digits: equal to the reference bit for bit\n")


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
def test_cmake_builds_and_tests_the_artifact(digits: Path, tmp_path: Path) -> None:
    subprocess.run(["cmake", "-S", digits, "-B", tmp_path], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", tmp_path], check=True, capture_output=True)
    done = subprocess.run(["ctest", "--test-dir", tmp_path], check=False, capture_output=True, text=True)
    assert "100% tests passed" in done.stdout, done.stdout


@pytest.mark.skipif(
    not (shutil.which(AARCH64) and shutil.which("qemu-aarch64")),
    reason="no aarch64 gcc and qemu-user: make edge-tools installs them",
)
def test_on_aarch64(digits: Path, tmp_path: Path) -> None:
    executable = compiled(digits, digits / "example_run.c", tmp_path / "run", "-O3", "-static", compiler=AARCH64)
    done = subprocess.run(["qemu-aarch64", executable], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_objects_need_memcpy_and_memset_at_most(digits: Path, tmp_path: Path) -> None:
    for source in SOURCES:
        # without -fno-pie, tables with pointers would lie in data that the loader writes once
        command = ["gcc", "-O2", "-fno-pie", "-c", str(digits / source), "-o", str(tmp_path / f"{source}.o")]
        subprocess.run(command, check=True)
    table = subprocess.run(["nm", *tmp_path.glob("*.o")], capture_output=True, text=True, check=True).stdout
    symbols = re.findall(r"^[0-9a-f ]* (\w) (\w+)$", table, re.MULTILINE)
    defined = {name for kind, name in symbols if kind != "U"}
    assert {name for kind, name in symbols if kind == "U"} - defined <= {"memcpy", "memset"}
    assert not [name for kind, name in symbols if kind in "bBCdD"]
    assert all(name.startswith("digits_") for kind, name in symbols if kind.isupper() and kind != "U")


def test_what_is_printed_and_recorded(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert build_main(["--target", "c", "--out", str(tmp_path / "a"), "--emit-ir", str(tmp_path / "ir")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"flash: \d+ bytes .*; RAM: \d+ bytes \(arena \d+, state \d+\) and the stack", printed)
    assert "spike-rows" in printed
    assert (tmp_path / "a" / "kernels.c").read_text() == next((tmp_path / "ir").glob("*-kernels.c")).read_text()


def test_without_a_compiler_for_microcontrollers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build_main(["--target", "c", "--out", str(tmp_path / "a")]) == 0
    assert re.search(r"flash: \d+ bytes of constants, and code \(no compiler to measure it\)", capsys.readouterr().out)


def test_verify_compiles_the_sources_and_proves_them(digits: Path, tmp_path: Path) -> None:
    checks = verify(digits)
    assert all(check.passed and check.compared for check in checks)
    graph, x = event_network()
    write_package(graph, PortableC(), tmp_path / "net", name="net", pattern=Pattern(2, 4), samples=x)
    assert all(check.passed and check.compared for check in verify(tmp_path / "net", {"given": x}))


def test_verify_where_a_state_begins_at_infinity(tmp_path: Path) -> None:
    b = StepGraphBuilder((12,))
    s = b.neuron("lif1", b.layer("fc1", nn.Linear(12, 9), b.x))
    x = torch.rand(6, 12)
    graph = lower_graph(b.output(read_out(b, b.layer("fc2", nn.Linear(9, 5), s), "max")), x, families=FAMILIES)
    write_package(graph, PortableC(keep_spikes=True), tmp_path / "a", name="9 lives", pattern=Pattern(2, 4), samples=x)
    assert "net_9_lives_init" in (tmp_path / "a" / "model.h").read_text()
    assert all(check.passed and check.compared for check in verify(tmp_path / "a", {"given": x}))


def test_python_says_how_to_run_sources(digits: Path) -> None:
    with pytest.raises(TargetError, match=r"holds C sources, which Python cannot run; its CMakeLists.txt builds them"):
        load(digits)


def test_verify_without_a_compiler(digits: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(ToolError, match="needs a C compiler and none of cc, gcc, clang is on the path"):
        verify(digits)


SPIKE_INPUT = """
#include <stdio.h>
#include <string.h>
#include "model.h"

static NET_ALIGNED uint8_t arena[NET_ARENA_BYTES];
static NET_ALIGNED uint8_t state[NET_STATE_BYTES];
static float frames[4][NET_INPUT_SIZE], given[4][NET_OUTPUT_SIZE], expected[4][NET_OUTPUT_SIZE];
static uint8_t packed[NET_INPUT_HEIGHT * NET_INPUT_WIDTH * NET_SPIKE_BYTES];

/* The same spikes as frames, as bits and as events; all outputs must agree. */
int main(void)
{
    net_event events[4 * NET_INPUT_SIZE];
    size_t count = 0, used, at = 0;
    int32_t t, wrong = net_init(arena, state);
    unsigned random = 1;
    for (t = 0; t < 4; t++)
        for (int i = 0; i < NET_INPUT_SIZE; i++) {
            random = random * 1664525u + 1013904223u;
            if (random >> 30 != 0) continue;
            const int pixel = i % (NET_INPUT_HEIGHT * NET_INPUT_WIDTH);
            net_event event = {(uint64_t)t * 500u + random % 500u, 0, 0, 0};
            event.x = (uint16_t)(pixel % NET_INPUT_WIDTH);
            event.y = (uint16_t)(pixel / NET_INPUT_WIDTH);
            event.channel = (uint16_t)(i / (NET_INPUT_HEIGHT * NET_INPUT_WIDTH));
            frames[t][i] = 1.0f;
            events[count++] = event;
        }
    for (t = 0; t < 4; t++) wrong |= net_step(arena, state, frames[t], expected[t]);
    memset(arena, 0xa5, sizeof arena);
    wrong |= net_init(arena, state);
    for (t = 0; t < 4; t++) {
        memset(packed, 0, sizeof packed);
        for (int i = 0; i < NET_INPUT_SIZE; i++) {
            const int pixels = NET_INPUT_HEIGHT * NET_INPUT_WIDTH, c = i / pixels;
            if (frames[t][i] > 0) packed[i % pixels * NET_SPIKE_BYTES + c / 8] |= (uint8_t)(1u << c % 8);
        }
        wrong |= net_step_spikes(arena, state, packed, given[t]);
    }
    printf("bits %d\\n", wrong || memcmp(given, expected, sizeof given));
    wrong = net_events_begin(arena, state, 0, 500);
    for (t = 0; t < 3; at += used) t += net_events_push(arena, state, events + at, count - at, &used, given[t]);
    wrong |= net_events_push(arena, state, events + at, count - at, &used, given[t]);
    wrong |= net_events_flush(arena, state, given[3]) != 1;
    printf("events %d\\n", wrong || memcmp(given, expected, sizeof given));
    return 0;
}
"""


def event_network() -> tuple[GraphModule, Tensor]:
    """Ten channels of spikes at each step, so that a pixel has two bytes."""
    b = StepGraphBuilder((10, 5, 4), per_step=True)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(10, 12, 3, padding=1), b.x))
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(12, 12, 3), s))
    x = (torch.rand(4, 6, 10, 5, 4) > 0.7).float()
    graph = b.output(b.mean(b.layer("fc", nn.Linear(72, 5), b.layer("flatten", nn.Flatten(), s))))
    return lower_graph(graph, x, families=FAMILIES), x


def test_frames_bits_and_events_give_the_same(tmp_path: Path) -> None:
    graph, x = event_network()
    write_package(graph, PortableC(), tmp_path / "net", name="net", pattern=Pattern(2, 4), samples=x)
    (tmp_path / "main.c").write_text(SPIKE_INPUT)
    executable = compiled(tmp_path / "net", tmp_path / "main.c", tmp_path / "run", *SANITIZED, "-Wno-pedantic")
    assert subprocess.run([executable], capture_output=True, check=True).stdout == b"bits 0\nevents 0\n"


TWO = """
#include <stdio.h>
#include <string.h>
#include "one/model.h"
#include "two/model.h"

static uint64_t arena1[ONE_ARENA_BYTES / 8 + 9], state1[ONE_STATE_BYTES / 8 + 9];
static uint64_t arena2[TWO_ARENA_BYTES / 8 + 9], state2[TWO_STATE_BYTES / 8 + 9];
static float x[2][ONE_INPUT_SIZE], alone[2][3][ONE_OUTPUT_SIZE], together[2][3][ONE_OUTPUT_SIZE];

static void *aligned(uint64_t *memory)
{
    return (void *)(((uintptr_t)memory + 63u) & ~(uintptr_t)63u);
}

int main(void)
{
    void *a1 = aligned(arena1), *s1 = aligned(state1), *a2 = aligned(arena2), *s2 = aligned(state2);
    for (int i = 0; i < ONE_INPUT_SIZE; i++) x[0][i] = (float)(i % 5 == 0), x[1][i] = (float)(i % 3 == 0);
    one_init(a1, s1), two_init(a2, s2);
    for (int t = 0; t < 3; t++) one_step(a1, s1, x[0], alone[0][t]);
    for (int t = 0; t < 3; t++) two_step(a2, s2, x[1], alone[1][t]);
    one_reset(a1, s1), two_reset(a2, s2);
    for (int t = 0; t < 3; t++) one_step(a1, s1, x[0], together[0][t]), two_step(a2, s2, x[1], together[1][t]);
    printf("%d %d\\n", memcmp(alone, together, sizeof alone) != 0, memcmp(alone[0], alone[1], sizeof alone[0]) != 0);
    printf("%s\\n", one_error(two_step(a1, s2, x[0], alone[0][0])));
    return 0;
}
"""


def test_two_networks_in_one_program(tmp_path: Path) -> None:
    graph, x = event_network()
    for name in ("one", "two"):
        write_package(graph, PortableC(), tmp_path / name, name=name, pattern=Pattern(2, 4), samples=x)
    (tmp_path / "main.c").write_text(TWO)
    sources = [str(tmp_path / name / source) for name in ("one", "two") for source in SOURCES]
    command = ["gcc", *STRICT, *SANITIZED, f"-I{tmp_path}", str(tmp_path / "main.c"), *sources]
    subprocess.run([*command, "-o", str(tmp_path / "run")], check=True)
    done = subprocess.run([tmp_path / "run"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0 1\nthe arena was not initialised for this network")


@pytest.mark.parametrize(
    "network",
    [
        *("gestures", "every_step", "rleaky", "lif_recurrent", "sew_iand"),
        *(pytest.param(name, marks=pytest.mark.long) for name in ("sew_resnet18", "sew_and", "vgg11")),
    ],
)
def test_networks_of_the_edge(tmp_path: Path, network: str) -> None:
    graph, x = NETWORKS[network]()
    CNetwork.write(graph, tmp_path).check(x)


LARGE = ("lif_recurrent", "sew_resnet18", "sew_and", "sew_iand", "vgg11")


@pytest.mark.parametrize("target", ["c", "cortex-m"])
@pytest.mark.parametrize(
    "network",
    [*("digits", "gestures", "every_step", "rleaky"), *(pytest.param(n, marks=pytest.mark.long) for n in LARGE)],
)
def test_public_functions_give_the_reference(tmp_path: Path, network: str, target: str) -> None:
    """With sanitizers, and every buffer in front of unreadable memory: frames, events, and states that take turns."""
    it = build_sources(network, target, tmp_path)
    check_sequences(it)
    check_events(it, 7)
    two = it.x[:, :2] if it.per_step else it.x[:2]
    assert it.drive("pair", two) == it.reference(two)
