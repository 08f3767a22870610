"""What every command does the same way: errors as one line, exit codes, progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from spikenm_compile.errors import SpikenmError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def run_command(command: Callable[[], int]) -> int:
    """Run a command: its exit code, or 1 and one line on stderr for an error the user can mend, 130 after Ctrl-C."""
    try:
        return command()
    except SpikenmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing half-written is left", file=sys.stderr)
        return INTERRUPTED


Advance = Callable[[str], None]
"""Called with what is done next."""


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """A progress bar on stderr of `total` steps; on something that is not a terminal, nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(title, total=total)

        def advance(what: str) -> None:
            bar.update(task, advance=1, description=f"{title}: {what}")

        yield advance
