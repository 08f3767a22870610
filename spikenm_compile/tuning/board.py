"""A board that measures: kernels are compiled here and timed there, by TVM's RPC.

On the board runs `python -m tvm.exec.rpc_server`, alone or with a tracker that hands boards out by key. Each trial is a
session of its own, so that what breaks there costs one trial.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikenm_compile.costs.trials import Kernel, Timing
from spikenm_compile.errors import InputError, PassError, ToolError
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.targets.cross import Toolchain, find_toolchain
from spikenm_compile.tuning.board_library import build_board_library
from spikenm_compile.tuning.measure import differs
from spikenm_compile.tuning.stopwatch import ENOUGH
from spikenm_compile.tuning.tasks import Task

LIBRARY = "layer.so"
SESSION = 60
"""Seconds that a board gives one trial."""


@dataclass(frozen=True)
class BoardAddress:
    """Where a board is: an RPC server, or where there is a key, a tracker that knows boards of that key."""

    host: str
    port: int
    key: str | None

    @classmethod
    def parse(cls, text: str, key: str | None) -> BoardAddress:
        """Read `HOST:PORT`.

        Raises:
            InputError: it is something else.
        """
        host, _, port = text.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise InputError(f"'{text}' is no address of a board; HOST:PORT is, so write for example 192.168.0.7:9090")
        return cls(host, int(port), key)

    @property
    def name(self) -> str:
        """What the log calls the board's CPU."""
        return self.key or f"{self.host}:{self.port}"

    def connect(self) -> Any:
        """A session on a board.

        Raises:
            ToolError: nobody answers, or not in TVM's protocol.
        """
        from tvm import rpc

        try:
            socket.create_connection((self.host, self.port), timeout=10).close()
            if self.key is None:
                return rpc.connect(self.host, self.port, session_timeout=SESSION)
            tracker = rpc.connect_tracker(self.host, self.port)
            return tracker.request(self.key, session_timeout=SESSION)
        except (OSError, RuntimeError) as error:
            raise ToolError(
                f"board {self.name} at {self.host}:{self.port} gave no session ({error}); an RPC server of TVM is "
                "needed, or a tracker that has a free board of that key: start tvm.exec.rpc_server on the board"
            ) from error


class BoardMeasurer:
    """Times the kernels of one task on a board, as a Measurer does here."""

    def __init__(self, address: BoardAddress, task: Task, cpu: Cpu) -> None:
        self._address, self._task, self._cpu = address, task, cpu

    def __call__(self, kernel: Kernel) -> Timing:
        """The time of a kernel.

        Raises:
            PassError: there is no such kernel of the layer, or it does not compute what the usual one does; or the
                session broke with it.
            ToolError: the board cannot be reached, or nothing here links for it.
        """
        kernels = list(dict.fromkeys((self._task.kernels[0], kernel)))
        with tempfile.TemporaryDirectory() as scratch:
            library = build_board_library(self._task, kernels, self._cpu, toolchain_of(self._cpu), Path(scratch))
            times = self._times(library, kernels)
        return Timing(times[-1] / times[0], times[-1])

    def _times(self, library: Path, kernels: Sequence[Kernel]) -> list[float]:
        session = self._address.connect()
        try:
            session.upload(str(library), LIBRARY)
            module = session.load_module(LIBRARY)
            agreed = bool(module["measure"](ENOUGH))
            times = [float(module["microseconds"](number)) for number in range(len(kernels))]
        except RuntimeError as error:  # what TVM raises where the other side breaks or takes too long
            last = (str(error).strip().splitlines() or ["no message"])[-1]
            raise PassError(f"board {self._address.name} broke off while it timed {kernels[-1]}: {last}") from error
        if not agreed:
            raise differs(kernels[-1], self._task)
        return times


def toolchain_of(cpu: Cpu) -> Toolchain:
    """What links for the board.

    Raises:
        ToolError: there is none here.
    """
    toolchain = find_toolchain(cpu)
    if toolchain is None:
        raise ToolError(
            f"kernels for {cpu.name} cannot be linked here; a C compiler for {cpu.gnu_triple} is needed, so install "
            f"the GNU one or clang"
        )
    return toolchain
