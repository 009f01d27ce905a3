"""Signals that stop a run: they are obeyed between two batches or two answers, after what was done is saved.

The command line listens to Ctrl-C (SIGINT), SIGTERM, SIGHUP (a closed terminal) and SIGUSR1 (the warning of a scheduler, as with SLURM's
``--signal=USR1@120``). A second signal, or one while no run is computed, stops at once. From Python nothing is changed: Ctrl-C raises a
``KeyboardInterrupt`` at once, and what was saved last is kept.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))


class Stopped(BaseException):
    """A signal stopped the process. Not an ``Exception``, so that no method can take it for a failure of its own."""

    def __init__(self, number: int, kept: str = "") -> None:
        """``kept``: a sentence that says what is kept, and how to resume."""
        super().__init__(" ".join(filter(None, [f"stopped by {signal.Signals(number).name}.", kept])))
        self.number = number


_waiting: list[None] = []  # one for each `at_safe_points` that is entered
_pending: list[int] = []  # the signal that came


@contextmanager
def listening() -> Iterator[None]:
    """Listen to the signals. One that is ignored (SIGHUP under ``nohup``) stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _obey)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _pending.clear()


def _obey(number: int, frame: FrameType | None) -> None:
    if _pending or not _waiting:
        raise Stopped(number)
    _pending.append(number)


@contextmanager
def at_safe_points() -> Iterator[None]:
    """Within this, a signal waits for the next ``stop_if_asked``."""
    _waiting.append(None)
    try:
        yield
    finally:
        _waiting.pop()


def asked() -> bool:
    """Whether a signal came that is not obeyed yet."""
    return bool(_pending)


def stop_if_asked(kept: Callable[[], str]) -> None:
    """Raise ``Stopped`` if a signal came; ``kept`` says what is kept."""
    if _pending:
        raise Stopped(_pending[0], kept())
