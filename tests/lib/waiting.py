# SPDX-License-Identifier: Apache-2.0
"""Waiting for conditions in tests."""
import time

DEADLINE_S = 60.0  # for anything that should take milliseconds: the machine may be busy
POLL_S = 0.01


def wait_for(what, condition, logs=lambda: ""):
    """The first true result of condition(). Fails with @what, and what logs() says, if there is none in time."""
    end = time.monotonic() + DEADLINE_S
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {DEADLINE_S:.0f} s: {what}\n{logs()}")
        time.sleep(POLL_S)
    return result
