"""Waiting that ends: every wait of these tests has a limit and says what it waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

# How long between two looks. Short, because most waits are over at the first or second look.
LOOK_EVERY_S = 0.02


class WaitTimeout(AssertionError):
    """Something that had to happen did not happen in time."""


class Deadline:
    """A moment after which waiting for `what` is a failure."""

    def __init__(self, seconds: float, what: str) -> None:
        self.what = what
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._at - time.monotonic())

    def passed(self) -> bool:
        """Whether the moment is over."""
        return time.monotonic() >= self._at

    def check(self, detail: str = "") -> None:
        """Fails if the moment is over."""
        if self.passed():
            suffix = f": {detail}" if detail else ""
            raise WaitTimeout(f"waited {self.seconds:g} s for {self.what}{suffix}")


def wait_for(look: Callable[[], Found | None], seconds: float, what: str) -> Found:
    """Looks until there is something to see, and returns it."""
    deadline = Deadline(seconds, what)
    while True:
        found = look()
        if found:
            return found
        deadline.check()
        time.sleep(LOOK_EVERY_S)
