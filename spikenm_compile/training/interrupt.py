"""Ctrl-C between two steps instead of inside of one, so that there is a whole state to write down."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what clusters send before they take a machine away."""


@contextmanager
def noted_interrupts() -> Iterator[Callable[[], bool]]:
    """A function that says whether to stop. A second signal stops at once.

    Where signals are not ours to handle (another thread, or ignored from the start), they are left as they are.
    """
    noted: list[int] = []
    before = {}

    def note(number: int, _frame: FrameType | None) -> None:
        if noted:
            raise KeyboardInterrupt("stopped at once; the last checkpoint that was written stays")
        noted.append(number)

    if threading.current_thread() is threading.main_thread():
        before = {n: h for n in SIGNALS if (h := signal.getsignal(n)) not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
