"""Asking until the answer is yes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["wait_until"]


def wait_until(question: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
    """Ask until the answer is true, and give it."""
    deadline = time.monotonic() + timeout
    while True:
        if answer := question():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout:g} s still not: {what}")
        time.sleep(0.1)
