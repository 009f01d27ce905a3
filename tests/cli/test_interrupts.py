"""Signals: they wait for a safe place, a second one does not wait, and the command line says what is kept."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import Tensor

from clbench.engine import interrupts
from clbench.engine.interrupts import Stopped
from clbench.methods.supsup import SupSup


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """No signal is ignored, as it is where the tests run in the background of a script or under ``nohup``."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_waits_for_a_safe_place() -> None:
    with interrupts.listening(), interrupts.at_safe_points():
        interrupts.stop_if_asked(lambda: "never said")
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.asked()
        with pytest.raises(Stopped, match=r"^stopped by SIGTERM\. All is kept\.$") as stopped:
            interrupts.stop_if_asked(lambda: "All is kept.")
    assert stopped.value.number == signal.SIGTERM
    assert not interrupts.asked()


def test_a_second_signal_does_not_wait() -> None:
    with interrupts.listening(), interrupts.at_safe_points():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped, match="SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)


def test_where_nothing_is_computed_a_signal_stops_at_once() -> None:
    with interrupts.listening(), pytest.raises(Stopped, match="SIGHUP"):
        os.kill(os.getpid(), signal.SIGHUP)


def test_what_is_ignored_stays_ignored_and_handlers_are_put_back() -> None:
    """As SIGHUP under ``nohup``."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts.listening(), interrupts.at_safe_points():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupts.asked()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1], ids=lambda number: number.name)
def test_the_command_line_says_what_is_kept_and_resumes_there(
    number: signal.Signals, clbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe, batches = SupSup.observe, []

    def counted(self: SupSup, inputs: Tensor, labels: Tensor) -> Tensor | None:
        batches.append(len(inputs))
        if len(batches) == 7:
            os.kill(os.getpid(), number)
        return observe(self, inputs, labels)

    monkeypatch.setattr(SupSup, "observe", counted)
    monkeypatch.setattr(SupSup, "tasks_at_once", 1)
    command = ["run", "--tasks", "2", "--updates", "10", "--network", "mlp-8", "--set", "outputs=12"]
    code, out, err = clbench(*command)
    (run,) = (Path("results") / "runs").iterdir()
    assert code == 128 + number
    assert out == ""
    assert err.strip() == (
        f"clbench: stopped by {number.name}. 0 of 2 tasks and 7 updates of the next are kept in {run}; "
        "the same command resumes there."
    )
    code, out, _ = clbench(*command)
    assert (code, out.split()[-1]) == (0, str(run))
    assert len(batches) == 2 * 10
