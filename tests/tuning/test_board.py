"""Kernels timed by TVM's RPC, on a server of this machine."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from edge_machines import machine, run_program
from torch.fx import GraphModule
from tuned_layers import tasks

from spikenm_compile.cli import main
from spikenm_compile.costs.trials import Machine, key_of
from spikenm_compile.errors import InputError, PassError, ToolError
from spikenm_compile.lowering.instructions import Instructions
from spikenm_compile.targets.cpu import detect
from spikenm_compile.targets.this_machine import board_machine, this_machine, tuned_machine
from spikenm_compile.tuning.board import BoardAddress, BoardMeasurer, toolchain_of
from spikenm_compile.tuning.board_library import build_board_library
from spikenm_compile.tuning.measure import Measurer
from spikenm_compile.tuning.one_layer import LayerProgram, plan_layer
from spikenm_compile.tuning.worker import Worker

TRACKER_MAGIC = 0x2F271
"""Of TVM's protocol between clients and trackers."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture
def server() -> Iterator[int]:
    """Port of an RPC server on this machine."""
    port = free_port()
    command = [sys.executable, "-m", "tvm.exec.rpc_server", "--host", "127.0.0.1", f"--port={port}"]
    with subprocess.Popen([*command, f"--port-end={port + 1}"], stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail("the RPC server did not begin")


def wrongly_planned(lowered: GraphModule, tile_width: int, prefix: str, tools: Instructions) -> LayerProgram:
    """The second kernel reads inputs that begin elsewhere."""
    planned = plan_layer(lowered, tile_width, prefix, tools)
    place = planned.source_place
    return planned if prefix == "kernel0" else replace(planned, source_place=replace(place, offset=place.offset + 8))


@pytest.mark.long
def test_trials_on_a_server(server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, task = tasks()
    address = BoardAddress("127.0.0.1", server, None)
    with Worker(detect(), partial(BoardMeasurer, address)) as measure:
        usual, other = task.kernels[0], task.kernels[-1]
        first, second = measure(task, usual), measure(task, other)
    assert first.timing is not None
    assert first.timing.ratio == 1.0
    assert second.timing is not None
    here = Measurer(task, detect())(other)
    assert 0.3 < second.timing.ratio / here.ratio < 3
    assert second.key == task.key
    monkeypatch.setattr("spikenm_compile.tuning.board_library.plan_layer", wrongly_planned)
    with pytest.raises(PassError, match=r"dense-rows.* of layer 'conv2' computes something else"):
        BoardMeasurer(address, task, detect())(other)


def serve_one_request(listening: socket.socket, port: int, key: str, asked: list[Any]) -> None:
    """What a tracker answers to who asks for a board of a key: where it is, and the key to show there."""
    connection, _ = listening.accept()  # of the client, which looks whether somebody is there
    connection.close()
    connection, _ = listening.accept()
    with connection:
        connection.sendall(connection.recv(4))
        (size,) = struct.unpack("<i", connection.recv(4))
        asked.append(json.loads(connection.recv(size)))
        answer = json.dumps([0, ["127.0.0.1", port, key]]).encode()
        connection.sendall(struct.pack("<i", len(answer)) + answer)


def test_a_board_of_a_tracker() -> None:
    """The tracker of TVM needs tornado: this one knows a single answer."""
    pytest.importorskip("tvm.rpc")
    asked: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port, closed = listening.getsockname()[1], free_port()
        thread = threading.Thread(target=serve_one_request, args=(listening, closed, "pi:1", asked), daemon=True)
        thread.start()
        from tvm.rpc import client

        found: list[Any] = []
        original = client.connect
        try:
            client.connect = lambda *arguments, **options: found.append((arguments, options)) or "session"  # type: ignore[func-returns-value]
            assert BoardAddress("127.0.0.1", port, "pi").connect() == "session"
        finally:
            client.connect = original
        thread.join()
    assert asked[0][1] == "pi"
    assert found[0][0][:3] == ("127.0.0.1", closed, "pi:1")


def test_an_address_without_a_board() -> None:
    with pytest.raises(ToolError, match=r"board pi at 127.0.0.1:\d+ gave no session .*: start tvm.exec.rpc_server"):
        BoardAddress("127.0.0.1", free_port(), "pi").connect()
    assert BoardAddress.parse("board.lan:9090", None) == BoardAddress("board.lan", 9090, None)
    for text in ("9090", "board:", ":9090", "board:0", "board:99999", "board:x"):
        with pytest.raises(InputError, match="is no address of a board; HOST:PORT is"):
            BoardAddress.parse(text, None)


def test_a_key_without_a_tracker(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--key", "pi"]) == 1
    assert "give --rpc HOST:PORT of the tracker too" in capsys.readouterr().err


LOADER = """
#include <stdint.h>
#include <stdio.h>
struct value { int32_t kind; uint32_t zero; union { int64_t whole; double real; } as; };
int __tvm_ffi_measure(void *, const struct value *, int32_t, struct value *);
int __tvm_ffi_microseconds(void *, const struct value *, int32_t, struct value *);
int main(void) {
    struct value seconds = {3, 0, {.real = 0.0}}, second = {1, 0, {.whole = 1}}, agreed, time;
    if (__tvm_ffi_measure(NULL, &seconds, 1, &agreed) || __tvm_ffi_microseconds(NULL, &second, 1, &time)) return 1;
    return !(agreed.kind == 1 && agreed.as.whole == 1 && time.kind == 3 && time.as.real > 0);
}
"""
"""Calls the functions as an RPC server does."""


def test_a_library_for_another_machine(tmp_path: Path) -> None:
    where = machine("cortex-a72")
    _, task = tasks()
    library = build_board_library(task, task.kernels[::6], where.cpu, toolchain_of(where.cpu), tmp_path)
    (tmp_path / "loader.c").write_text(LOADER)
    program = tmp_path / "loader"
    command = [*toolchain_of(where.cpu).cc, str(tmp_path / "loader.c"), str(library), "-Wl,-rpath,$ORIGIN"]
    subprocess.run([*command, "-o", str(program)], check=True)
    assert run_program([*where.runner, program]).returncode == 0


def test_a_build_goes_by_the_trials_of_this_machine_or_of_one_board() -> None:
    cpu, (_, task) = detect(), tasks()
    here, pi, other = this_machine(cpu), board_machine(cpu, "pi"), board_machine(cpu, "other")
    stranger = Machine(cpu.name, "some other CPU", here.versions)

    def found(*machines: Machine) -> Machine:
        return tuned_machine(cpu, [key_of(task.call, machine) for machine in machines])

    assert found() == found(stranger) == found(here, pi) == here
    assert found(pi) == found(pi, stranger) == pi
    with pytest.raises(InputError, match=r"of 2 boards \(board other, board pi\)"):
        found(pi, other)
