"""Waiting for what must come to be true, never for a time."""
import os
import time

# A sanitizer build, or a loaded machine, may ask for more patience: it costs only where a test fails.
PATIENCE = float(os.environ.get("TEST_PATIENCE", "30"))


class TimedOut(AssertionError):
    """What was waited for did not come."""


def wait_until(predicate, what, timeout=None, interval=0.01, progress=None):
    """Polls until predicate() is true and returns its value; what says, for people, what was waited for.

    progress: patience begins anew as long as its value changes."""
    timeout = PATIENCE if timeout is None else timeout
    deadline = time.monotonic() + timeout
    reached = progress() if progress else None
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            before, reached = reached, progress() if progress else None
            if reached != before:
                deadline = time.monotonic() + timeout
                continue
            raise TimedOut(f"waited {timeout:g} s in vain for: {what} (last seen: {value!r})")
        time.sleep(interval)
