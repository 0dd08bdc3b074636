"""The short form of the fuzzing, and the proof that the long one finds what there is to find."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_lro_provider.lro import protocol
from airflow_lro_provider.lro.resources.names import read_reference
from tests.fuzz import fuzz, targets

quick = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


# B3: a location that looks misspelt gets a warning, and is accepted.
@pytest.mark.filterwarnings("ignore:no location .* is known")
@pytest.mark.parametrize("name", targets.TARGETS)
@quick
@given(chance=st.randoms(use_true_random=False))
def test_nothing_breaks(name: str, chance: random.Random) -> None:
    """Each target with inputs that hypothesis chooses, and makes small if one breaks a promise."""
    targets.TARGETS[name][0](chance)


def test_a_portion_of_the_long_form() -> None:
    """Some thousands of inputs of every kind: no crash, no hang, no request to a foreign host."""
    tally = fuzz.play(seed=7, portion=0, inputs=4_000)
    assert tally.is_clean, [*tally.crashes, *tally.hangs, *tally.foreign][:3]
    assert set(tally.inputs) == set(targets.TARGETS)
    assert tally.inputs.total() == 4_000


def test_the_fuzzer_finds_crashes_hangs_and_foreign_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is planted is found, counted as what it is, and shown with its input; the run goes on after it."""
    monkeypatch.setattr(fuzz, "HANG", 0.05)

    def crash(chance: random.Random) -> object:
        given = chance.choice(["good", "bad"])
        return {"good": 1}[given]

    def hang(_: random.Random) -> object:
        try:
            while True:
                time.sleep(0.01)
        except Exception:  # which must not swallow the end of it
            return None

    def foreign(_: random.Random) -> object:
        reference = read_reference(targets._NAMES[0], "earthengine")
        request = protocol.get(reference, "https://evil.example")
        return targets.check_request(request, "https://earthengine.googleapis.com", True)

    tally = fuzz.play(1, 0, 20, {"crash": (crash, 3), "hang": (hang, 1), "foreign": (foreign, 1)})
    assert tally.inputs.total() == 20
    assert 0 < len(tally.crashes) < tally.inputs["crash"]
    assert "KeyError: 'bad'" in tally.crashes[0]
    assert "given = 'bad'" in tally.crashes[0]
    assert len(tally.hangs) == tally.inputs["hang"] > 0
    assert len(tally.foreign) == tally.inputs["foreign"] > 0
    assert not tally.is_clean


EVIL_URLS = [
    "https://evil.example/v1/{name}",
    "https://{host}.evil.example/v1/{name}",
    "https://{host}@evil.example/v1/{name}",
    "https://user@{host}/v1/{name}",
    "http://{host}/v1/{name}",
    "https://{host}:444/v1/{name}",
    "https://{host}\\@evil.example/v1/{name}",
    "https://{host}/v1/../{name}",
    "https://{host}/v1/{name}#x",
    "https://{host}/v1beta1/{name}",
    "https://{host}/v1/{name}\r\nHost: evil.example",
    "//{host}/v1/{name}",
]


@pytest.mark.parametrize("url", EVIL_URLS)
def test_the_judge_of_requests_is_strict(url: str) -> None:
    """A request that leads elsewhere, or hides where it leads, does not pass for a good one."""
    reference = read_reference(targets._NAMES[0], "earthengine")
    endpoint = "https://earthengine.googleapis.com"
    good = protocol.get(reference, endpoint)
    targets.check_request(good, endpoint, True)
    spoiled = url.format(host="earthengine.googleapis.com", name=reference.name)
    with pytest.raises((AssertionError, ValueError)):
        targets.check_request(replace(good, url=spoiled), endpoint, True)


def test_the_same_seed_gives_the_same_inputs() -> None:
    """A finding can be played again: chance comes from the seed alone, in any process."""
    mine = [repr(targets.fuzz_reference(random.Random(f"{seed}"))) for seed in range(50)]
    code = (
        "import random\nfrom tests.fuzz import targets\n"
        "print([repr(targets.fuzz_reference(random.Random(f'{seed}'))) for seed in range(50)].__repr__().encode("
        "'unicode_escape').decode())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "3"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == repr(mine).encode("unicode_escape").decode()


def test_the_command_line(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints what was tried and found, and its exit status says whether anything was."""
    monkeypatch.setattr(fuzz, "PORTION", 100)
    assert fuzz.main(["--seed", "5", "--only", "0"]) == 0
    told = capfd.readouterr().out
    for row in ("inputs tried", "crashes", "hangs", "requests sent to foreign hosts", "peak memory"):
        assert row in told

    def broken(_: random.Random) -> object:
        raise KeyError("\ud800")

    monkeypatch.setitem(targets.TARGETS, "event", (broken, 1))
    assert fuzz.main(["--seed", "5", "--only", "0"]) == 1
    assert "--- crash: event, --seed 5 --only 0, input" in capfd.readouterr().out
