"""The long form of the fuzzing: ``python tests/fuzz/fuzz.py --inputs 1000000 --seed 1``.

Inputs are dealt in portions, each with a generator of its own, so that the same seed gives the same inputs on any
number of processes, and any portion can be played again (``--only``). A crash is any exception that is not one of
the package's own, or a promise that was broken; a hang an input that takes longer than :data:`HANG` seconds. The exit
status is 0 if there was neither, and no request that leads to a foreign host.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import reprlib
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.fuzz.targets import TARGETS, ForeignHostError, Target

__all__ = ["Tally", "main", "play"]

HANG = 2.0
PORTION = 5_000
SHOWN = 10
"""How many findings of each kind are shown."""


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 600
_REPR.maxdict = 20


class _HangError(BaseException):
    """An input that took too long. Not an Exception: nobody shall swallow it."""


@dataclass
class Tally:
    """The outcome of some inputs."""

    inputs: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    peak: int = 0
    """Of the process's memory, in bytes."""

    def add(self, other: Tally) -> None:
        """Add the outcome of others."""
        self.inputs += other.inputs
        self.crashes += other.crashes
        self.hangs += other.hangs
        self.foreign += other.foreign
        self.peak = max(self.peak, other.peak)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.crashes or self.hangs or self.foreign)


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise _HangError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def play(seed: int, portion: int, inputs: int, targets: dict[str, tuple[Target, int]] = TARGETS) -> Tally:
    """Play one portion.

    :param seed: of the whole run.
    :param portion: which one.
    :param inputs: how many inputs it has.
    """
    tally = Tally()
    names, weights = list(targets), [weight for _, weight in targets.values()]
    random = Random(f"{seed}/{portion}")
    with _alarm():
        for number, name in enumerate(random.choices(names, weights, k=inputs)):
            one = Random(f"{seed}/{portion}/{number}")
            place = f"{name}, --seed {seed} --only {portion}, input {number}"
            try:
                signal.setitimer(signal.ITIMER_REAL, HANG)
                targets[name][0](one)
            except _HangError as error:
                tally.hangs.append(f"{place}\n{_shown(error)}")
            except ForeignHostError as error:
                tally.foreign.append(f"{place}\n{_shown(error)}")
            except Exception as error:
                tally.crashes.append(f"{place}\n{_shown(error)}")
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            tally.inputs[name] += 1
    tally.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return tally


def _shown(error: BaseException) -> str:
    """The error, and what the target had in its hands."""
    frame = error.__traceback__.tb_next if error.__traceback__ is not None else None
    held = {} if frame is None else frame.tb_frame.f_locals
    rows = [f"    {name} = {_REPR.repr(value)}" for name, value in held.items() if not isinstance(value, Random)]
    return "".join(traceback.format_exception(error, limit=-4)) + "\n".join(rows)


def _play(arguments: tuple[int, int, int]) -> Tally:
    return play(*arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Fuzz the core with spoiled names, responses and records.")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--only", type=int, help="play this portion again, in this process")
    given = parser.parse_args(arguments)
    portions = [
        (given.seed, number, min(PORTION, given.inputs - begin))
        for number, begin in enumerate(range(0, given.inputs, PORTION))
    ]
    begun, tally = time.monotonic(), Tally()
    if given.only is not None:
        tally = play(given.seed, given.only, PORTION)
    else:
        with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
            for part in pool.imap_unordered(_play, portions):
                tally.add(part)
    seconds = time.monotonic() - begun
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for kind, findings in (("crash", tally.crashes), ("hang", tally.hangs), ("foreign host", tally.foreign)):
        for text in findings[:SHOWN]:
            print(f"--- {kind}: {text}")
    for name, count in sorted(tally.inputs.items()):
        print(f"{name:<12}{count:>9}")
    print(f"seed                               {given.seed}")
    print(f"inputs tried                       {tally.inputs.total()} in {seconds:.0f} s")
    print(f"crashes                            {len(tally.crashes)}")
    print(f"hangs (over {HANG:g} s)                  {len(tally.hangs)}")
    print(f"requests sent to foreign hosts     {len(tally.foreign)}")
    print(f"peak memory of one process         {tally.peak / 2**20:.0f} MiB")
    return 0 if tally.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
