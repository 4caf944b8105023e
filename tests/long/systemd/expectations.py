"""What must be so, now or soon."""

import time


def expect(is_so, otherwise):
    if not is_so:
        raise AssertionError(otherwise)


def wait_for(what, is_so, at_most=10):
    end = time.monotonic() + at_most
    while not is_so():
        expect(time.monotonic() < end, f"in {at_most} s it never came that {what}")
        time.sleep(0.05)
