"""What every command does the same way: errors as one line, exit codes, progress."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from spikenm_compile.errors import SpikenmError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


BROKEN_PIPE = 141
"""Exit code when the reader of stdout has gone, as `| head` does; as shells have it."""


def run_command(command: Callable[[], int]) -> int:
    """Run a command: its exit code, or 1 and one line on stderr for an error the user can mend.

    130 after Ctrl-C, 141 if nobody reads stdout any more.
    """
    with _noted_interrupts() as interrupts:
        try:
            code = command()
            sys.stdout.flush()
        except BaseException as error:
            # Whatever comes after Ctrl-C comes of it: libraries turn an interrupted import into errors of their own.
            if interrupts or isinstance(error, KeyboardInterrupt):
                return _interrupted(error)
            return _failed(error)
    return code


@contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """A list that grows with each Ctrl-C, beside the usual KeyboardInterrupt."""
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread() or (
        signal.getsignal(signal.SIGINT) is not signal.default_int_handler  # a background job ignores it
    ):
        yield noted
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupted(error: BaseException) -> int:
    # Ctrl-C inside of generated code leaves a mark by which Python would end as killed, whatever the exit code is;
    # running any other code that way clears it.
    exec("")
    what = str(error) if isinstance(error, KeyboardInterrupt) else ""
    print(f"interrupted; {what or 'no half-written artifact is left'}", file=sys.stderr)
    return INTERRUPTED


def _failed(error: BaseException) -> int:
    """The exit code of an error the user can mend; any other is raised again."""
    match error:
        case SpikenmError():
            return _fail(str(error))
        case BrokenPipeError():
            # Python flushes stdout once more at its end, and must not fail there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        case OSError(filename=str() as name):
            return _fail(f"'{name}' cannot be used ({error.strerror}); give a place that can be read and written")
    raise error


def _fail(message: str) -> int:
    """Say it on one line, whatever line breaks the libraries behind it wanted."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 1


Advance = Callable[[str], None]
"""Called with what is done next."""


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Advance]:
    """A progress bar on stderr, of `total` steps if that is known; on something that is not a terminal, nothing.

    Print results after it, not inside.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns,
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
        redirect_stdout=False,  # else it moves what is printed meanwhile to stderr, out of the user's pipe
    ) as bar:
        task = bar.add_task(title, total=total)

        def advance(what: str) -> None:
            bar.update(task, advance=1, description=f"{title}: {what}")

        yield advance
