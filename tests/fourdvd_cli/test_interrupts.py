import os
import signal
import sys
import time

import pytest

from fourdvd_cli import interrupts


@pytest.fixture(autouse=True)
def installed():
    handlers = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    hook = sys.unraisablehook
    interrupts.install()
    yield
    sys.unraisablehook = hook
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_a_signal_interrupts(number):
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


class _Interrupted:
    """An object in whose destructor a signal arrives, where Python discards exceptions."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_in_a_destructor_interrupts_a_moment_later(capfd):
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        _Interrupted()
        time.sleep(10)
    assert time.monotonic() - started < 5  # it does not wait for the end of the sleep
    assert capfd.readouterr().err == ""


def test_any_other_error_in_a_destructor_is_shown(capfd):
    class Faulty:
        def __del__(self):
            raise ValueError("faulty destructor")

    Faulty()
    assert "faulty destructor" in capfd.readouterr().err


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_in_a_stop_request_the_first_signal_requests_and_the_second_interrupts(number):
    with pytest.raises(KeyboardInterrupt), interrupts.stop_request() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), number)
        assert should_stop()
        os.kill(os.getpid(), number)


def test_after_a_stop_request_a_signal_interrupts_at_once():
    with interrupts.stop_request():
        pass
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_requested_stop_is_announced_on_stderr(capfd):
    with pytest.raises(InterruptedError), interrupts.stop_request() as should_stop:
        os.kill(os.getpid(), signal.SIGINT)
        if should_stop():
            raise InterruptedError
    assert "stopping" in capfd.readouterr().err


def test_a_request_that_the_work_ignores_interrupts_after_it():
    with pytest.raises(KeyboardInterrupt), interrupts.stop_request():
        os.kill(os.getpid(), signal.SIGINT)
