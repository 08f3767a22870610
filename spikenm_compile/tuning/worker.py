"""A warm process that measures: what breaks in generated code breaks there, and costs one trial."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from spikenm_compile.costs.trials import Kernel, Timing, Trial
from spikenm_compile.errors import SpikenmError, ToolError
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.tuning.measure import Measurer
from spikenm_compile.tuning.tasks import Task

PATIENCE = 120.0
"""Seconds that a trial may take, compiling included."""


Measure = Callable[[Kernel], Timing]
MakeMeasurer = Callable[[Task, Cpu], Measure]


class Worker:
    """Starts its process when there is something to measure, and again after it broke.

    Args:
        cpu: that kernels are compiled for.
        make_measurer: what times the kernels of a task: here, or on a board.
        patience: seconds that a trial may take.
    """

    def __init__(self, cpu: Cpu, make_measurer: MakeMeasurer | None = None, patience: float = PATIENCE) -> None:
        self._cpu, self._make_measurer, self._patience = cpu, make_measurer or Measurer, patience
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._task: Task | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def __call__(self, task: Task, kernel: Kernel) -> Trial:
        """One trial.

        Raises:
            ToolError: what trials need is not there; no kernel is to blame.
        """
        connection = self._connection or self._start()
        try:
            connection.send((task if task is not self._task else None, kernel))
            self._task = task
            if not connection.poll(self._patience):
                return self._broken(task, kernel, f"took more than {self._patience:.0f} seconds")
            answer: Timing | str | ToolError = connection.recv()
        except (EOFError, ConnectionError):
            return self._broken(task, kernel, "the process that measured it died")
        if isinstance(answer, ToolError):
            raise answer
        if isinstance(answer, str):
            return Trial(task.key, kernel, None, answer)
        return Trial(task.key, kernel, answer)

    def _broken(self, task: Task, kernel: Kernel, failure: str) -> Trial:
        self._stop()
        return Trial(task.key, kernel, None, failure)

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self._cpu, self._make_measurer), daemon=True)
        self._process.start()
        theirs.close()
        return self._connection

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = self._task = None


def serve(connection: Connection, cpu: Cpu, make_measurer: MakeMeasurer) -> None:
    """Answer (a task if it is another, a kernel) with its timing, or with the sentence that says why there is none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that writes the log, which ends this one
    with suppress(EOFError, ConnectionError):  # the other process has ended
        _answer(connection, cpu, make_measurer)


def _answer(connection: Connection, cpu: Cpu, make_measurer: MakeMeasurer) -> None:
    measurer: Measure | None = None
    while True:
        task, kernel = connection.recv()
        measurer = measurer if task is None else make_measurer(task, cpu)
        assert measurer is not None
        try:
            connection.send(measurer(kernel))
        except ToolError as error:
            connection.send(error)
        except SpikenmError as error:
            connection.send(str(error))
