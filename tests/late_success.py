"""A service that wins the race against a cancellation, without a race in the test."""

from __future__ import annotations

import threading
import time

from airflow_lro_provider.emulator import Emulator


def succeed_after_cancel(emulator: Emulator, name: str) -> None:
    """Let an operation succeed as soon as its cancellation was requested. Make it with ``cancel="ignore"``."""

    def succeed() -> None:
        while not emulator.requests(verb="cancel", name=name):
            time.sleep(0.01)
        emulator.finish("datafusion", name)

    threading.Thread(target=succeed, daemon=True).start()
