"""What a signal handler may do at any moment, and how long a pod that is taken away still has."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from bootstrap.signals import ClaimPause, TakenAway, Termination, Wake


def test_waking_from_a_signal_handler_never_waits_for_itself() -> None:
    """With a threading.Event this stands still as soon as a signal comes while its lock is held."""
    wake = Wake()
    before = signal.signal(signal.SIGALRM, lambda *_: wake.set())
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        for _ in range(5000):
            wake.wait(0.001)
            wake.set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_call_before_the_wait_is_not_missed_and_counts_once() -> None:
    wake = Wake()
    wake.set()
    wake.set()
    began = time.monotonic()
    wake.wait(10)
    assert time.monotonic() - began < 5
    wake.wait(0.01)


def test_the_grace_time_runs_from_the_first_sigterm() -> None:
    terminated = Termination(100)
    assert terminated.seconds_left() is None
    terminated.set()
    left = terminated.seconds_left()
    terminated.grace_seconds = 200
    terminated.set()
    later = terminated.seconds_left()
    assert left is not None and 99 < left <= 100
    assert later is not None and 199 < later <= 200


def test_sigterm_ends_the_waiting_for_a_server_only_while_claiming() -> None:
    terminated, wake, slept = Termination(), Wake(), []
    pause = ClaimPause(terminated, wake, slept.append)

    def term() -> None:
        terminated.set()
        wake.set()

    threading.Timer(0.05, term).start()
    with pytest.raises(TakenAway):
        pause(30)
    pause.claiming = False
    pause(30)
    assert slept == [30]
