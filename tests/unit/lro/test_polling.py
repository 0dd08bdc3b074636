"""When the next poll is due, with the clock and the dice in the test's hand."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest

from airflow_lro_provider.lro import polling
from airflow_lro_provider.lro.errors import (
    ApiError,
    CredentialsError,
    MalformedResponseError,
    NotFoundError,
    OperationsError,
    PermissionDeniedError,
    ResourceExhaustedError,
    TransportError,
    UnavailableError,
    UnimplementedError,
    UnreachableError,
    WaitTimeoutError,
)
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import (
    INTERVAL_AGE_FRACTION,
    INTERVAL_JITTER,
    LONG_POLL_PAUSE_SECONDS,
    LONG_POLL_SECONDS,
    MAX_INTERVAL_SECONDS,
    MIN_INTERVAL_SECONDS,
    NOT_FOUND_SECONDS,
    NOT_FOUND_TIMES,
    Absence,
    Deadline,
    LongPolls,
    PollSchedule,
    Trouble,
    earliest,
    new_schedule,
)

NAME = "projects/p/operations/o"
START = 1_000_000.0


def schedule(rng: float = 0.5, **arguments: Any) -> PollSchedule:
    """A schedule that begins at START and always draws the same number."""
    return PollSchedule(**{"started": START, **arguments}, rng=lambda: rng)


def poll(**fields: Any) -> Operation:
    """One poll."""
    return Operation.from_json({"name": NAME, **fields})


def api_error(kind: type[ApiError], retry_after: float | None = None) -> ApiError:
    """An error of the API."""
    return kind(
        service="earthengine",
        verb="get",
        operation=NAME,
        http_status=0,
        status="S",
        message="m",
        retry_after=retry_after,
    )


# --- intervals -------------------------------------------------------------------------------------


def test_the_numbers_are_the_promised_ones() -> None:
    """From a second to a minute, a twentieth of the age, spread by a tenth."""
    assert (MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS) == (1.0, 60.0)
    assert (NOT_FOUND_SECONDS, NOT_FOUND_TIMES) == (10.0, 3)
    assert (INTERVAL_AGE_FRACTION, INTERVAL_JITTER) == (0.05, 0.1)


@pytest.mark.parametrize(
    ("age", "interval"),
    [(-5, 1), (0, 1), (19.9, 1), (20, 1), (60, 3), (100, 5), (600, 30), (1200, 60), (1201, 60), (86_400, 60)],
)
def test_the_interval_grows_with_the_age(age: float, interval: float) -> None:
    """Unset, the interval is a small part of the wait's age, between floor and ceiling."""
    assert schedule().delay(START + age) == pytest.approx(interval)


@pytest.mark.parametrize(
    ("rng", "factor"), [(0.0, 0.9), (0.25, 0.95), (0.5, 1.0), (1.0, 1.1)], ids=["low", "lower", "middle", "high"]
)
@pytest.mark.parametrize(("age", "interval"), [(0, 1), (600, 30), (86_400, 60)], ids=["floor", "between", "ceiling"])
def test_jitter(rng: float, factor: float, age: float, interval: float) -> None:
    """The interval is spread by a tenth to both sides, and no further."""
    assert schedule(rng).delay(START + age) == pytest.approx(interval * factor)


def test_a_day_costs_few_requests() -> None:
    """An operation of a day is polled some 1500 times, the end of one of a minute is known within three seconds."""
    subject, now, asked = schedule(), START, 0
    while now < START + 86_400:
        now += subject.delay(now)
        asked += 1
    assert asked < 1600
    assert max(subject.delay(START + age) for age in range(61)) <= 3


def test_the_dice_are_random_by_default() -> None:
    """Many waits do not poll in step."""
    assert len({PollSchedule(started=0.0).delay(600.0) for _ in range(20)}) > 1


@pytest.mark.parametrize("age", [0, 600, 86_400])
def test_an_interval_that_was_set_is_kept(age: float) -> None:
    """Who says how often is obeyed to the second, without jitter."""
    for rng in (0.0, 1.0):
        assert schedule(rng, interval=7.5).delay(START + age) == 7.5


@pytest.mark.parametrize("interval", [1, 10, 37, 0.4])
@pytest.mark.parametrize("polls", [1, 2, 3, 5, 10])
def test_exponential_backoff_is_airflows(interval: float, polls: int) -> None:
    """The interval lies where BaseSensorOperator._get_next_poke_interval puts it: [base, 2 * base)."""
    base = max(int(interval * (2 ** (polls - 2))), 1)
    low, high = (
        schedule(0.0, interval=interval, exponential_backoff=True),
        schedule(0.999999, interval=interval, exponential_backoff=True),
    )
    for _ in range(polls):
        low.observe(poll())
        high.observe(poll())
    assert low.delay(START) == base
    assert base * 1.99 < high.delay(START) < base * 2


def test_exponential_backoff_does_not_overflow() -> None:
    """A wait of very many polls still has an interval that is a number, cut by max_wait."""
    subject = schedule(interval=60, exponential_backoff=True, max_wait=600)
    subject.polls = 100_000
    assert subject.delay(START) == 600


def test_exponential_backoff_without_an_interval_begins_at_the_floor() -> None:
    """Without an interval the base is the floor."""
    subject = schedule(0.0, exponential_backoff=True)
    delays = []
    for _ in range(5):
        subject.observe(poll())
        delays.append(subject.delay(START))
    assert delays == [1, 1, 2, 4, 8]


def test_failed_polls_back_off_too() -> None:
    """A poll that failed counts as one."""
    subject = schedule(0.0, interval=10, exponential_backoff=True)
    delays = []
    for _ in range(4):
        subject.failed(api_error(UnavailableError), START)
        delays.append(subject.delay(START))
    assert delays == [5, 10, 20, 40]


@pytest.mark.parametrize(
    ("arguments", "delay"),
    [({"max_wait": 20}, 20), ({"interval": 300, "max_wait": 20}, 20), ({"interval": 5, "max_wait": 20}, 5)],
    ids=["growing", "set", "shorter anyway"],
)
def test_max_wait(arguments: dict[str, Any], delay: float) -> None:
    """No interval is longer than max_wait."""
    assert schedule(**arguments).delay(START + 86_400) == delay


@pytest.mark.parametrize(
    ("interval", "retry_after", "delay"), [(5, 30, 30), (60, 30, 60), (5, None, 5), (5, 0.0, 5)], ids=str
)
def test_retry_after(interval: float, retry_after: float | None, delay: float) -> None:
    """The API's own wish is a minimum for the next interval."""
    subject = schedule(interval=interval)
    subject.failed(api_error(ResourceExhaustedError, retry_after), START)
    assert subject.delay(START) == delay


def test_a_short_interval_is_kept_short() -> None:
    """Without a wish of the API nothing lengthens an interval, also after an error."""
    subject = schedule(interval=1.5)
    assert subject.delay(START) == 1.5
    subject.failed(TransportError("x"), START)
    assert subject.delay(START) == 1.5


@pytest.mark.parametrize("options", [{"interval": 0.0}, {"interval": 0.4}, {"max_wait": 0.0}, {"max_wait": 0.4}])
def test_less_than_a_second_counts_as_one(options: dict[str, float]) -> None:
    """C3: no interval that is given makes a wait a flood of requests; nor does a `max_wait`, doubled or not."""
    for subject in (schedule(**options), schedule(**options, exponential_backoff=True)):
        for _ in range(3):
            subject.observe_unchanged()
        assert subject.delay(START + 600) >= 1.0


def test_retry_after_goes_before_max_wait() -> None:
    """Polling more often than the API allows is only refused again."""
    subject = schedule(interval=5, max_wait=10)
    subject.failed(api_error(ResourceExhaustedError, 30), START)
    assert subject.delay(START) == 30


@pytest.mark.parametrize("then", ["a poll", "another error"])
def test_retry_after_holds_once(then: str) -> None:
    """Retry-After is forgotten with the next response."""
    subject = schedule(interval=5)
    subject.failed(api_error(ResourceExhaustedError, 30), START)
    if then == "a poll":
        subject.observe(poll())
    else:
        subject.failed(TransportError("x"), START)
    assert subject.delay(START) == 5


# --- deadlines -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "retry_after"),
    [
        ({"interval": 60}, None),
        ({}, None),
        ({"interval": 60, "exponential_backoff": True}, None),
        ({"interval": 5}, 600),
    ],
    ids=["set", "growing", "backoff", "retry after"],
)
def test_no_interval_goes_past_the_deadline(arguments: dict[str, Any], retry_after: float | None) -> None:
    """The last sleep ends at the deadline, whatever the interval would be, and is never negative."""
    subject = schedule(deadline=Deadline(START + 1000, "timeout", 1000), **arguments)
    for _ in range(8):
        subject.failed(api_error(ResourceExhaustedError, retry_after), START)
    assert subject.delay(START + 999.5) == pytest.approx(0.5)
    assert subject.delay(START + 1000) == 0
    assert subject.delay(START + 2000) == 0


@pytest.mark.parametrize(
    ("cause", "words"),
    [("timeout", "timeout"), ("sensor_timeout", "sensor timeout"), ("execution_timeout", "execution timeout")],
)
def test_the_deadline_ends_the_wait(cause: str, words: str) -> None:
    """At the deadline, and not before, the wait ends with its cause and its length."""
    subject = schedule(deadline=Deadline(START + 90, cause, 90.0))
    subject.check_deadline(START + 89.99, NAME)
    with pytest.raises(WaitTimeoutError, match=f"^still running at the {words} of 90 s: {NAME}$"):
        subject.check_deadline(START + 90, NAME)


@pytest.mark.parametrize(
    ("code", "late", "fell"), [(1, 0.0, True), (1, -0.01, False), (13, 0.0, False), (None, 0.0, False)]
)
def test_what_was_cancelled_at_the_deadline_fell_to_it(code: int | None, late: float, fell: bool) -> None:
    """Neither a failure nor a success did, nor what was cancelled before."""
    subject = schedule(deadline=Deadline(START + 90, "timeout", 90.0))
    end: dict[str, object] = {"response": {}} if code is None else {"error": {"code": code}}
    subject.observe(Operation.from_json({"name": NAME, "done": True, **end}))
    assert subject.cancelled_at_deadline(START + 90 + late) is fell


def test_without_a_deadline_a_wait_has_no_end() -> None:
    """No deadline never passes."""
    subject = schedule()
    subject.check_deadline(START + 1e9, NAME)
    assert subject.delay(START + 1e9) == MAX_INTERVAL_SECONDS


def test_earliest() -> None:
    """The first deadline to come counts, and missing ones do not."""
    sensor, execution = Deadline(20.0, "sensor_timeout", 20), Deadline(10.0, "execution_timeout", 10)
    assert earliest([None, sensor, execution]) is execution
    assert earliest([sensor, None]) is sensor
    assert earliest([None, None]) is None
    assert earliest([]) is None


def test_a_deadline_survives_being_stored() -> None:
    """What a trigger's arguments hold is read back as the same deadline."""
    deadline = Deadline(1_762_000_000.25, "execution_timeout", 90.5)
    assert Deadline.from_dict(deadline.to_dict()) == deadline


@pytest.mark.parametrize(
    ("timeout", "deadline"), [(None, None), (30.0, Deadline(START + 30, "timeout", 30.0))], ids=["none", "30 s"]
)
def test_new_watch(timeout: float | None, deadline: Deadline | None) -> None:
    """A plain wait begins now and ends after its timeout."""
    subject = new_schedule(START, timeout=timeout, interval=3)
    assert (subject.started, subject.deadline, subject.interval) == (START, deadline, 3)


# --- errors ----------------------------------------------------------------------------------------

TRANSIENT = [
    api_error(UnavailableError),
    api_error(ResourceExhaustedError),
    TransportError("no connection"),
    MalformedResponseError("HTML"),
]
FINAL = [
    api_error(PermissionDeniedError),
    api_error(UnimplementedError),
    api_error(ApiError),
    UnreachableError("not trusted"),
    CredentialsError("no token"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda error: type(error).__name__)
def test_transient_errors_never_end_a_wait(error: OperationsError) -> None:
    """However many there are and however late they come."""
    subject = schedule(interval=5)
    for age in (0, 11, 3600, 86_400):
        subject.failed(error, START + age)
    assert (subject.polls, subject.done) == (4, None)


def test_trouble_of_our_own_is_for_whoever_waits() -> None:
    """It says nothing about the operation: the error itself is raised at once."""
    error = CredentialsError("no token")
    with pytest.raises(CredentialsError) as caught:
        schedule().failed(error, START)
    assert caught.value is error


@pytest.mark.parametrize("error", FINAL[:-1], ids=lambda error: type(error).__name__)
def test_other_errors_end_it_once_they_are_believed(error: OperationsError) -> None:
    """Ten seconds and three times, as a 404; one between good responses, or of another kind, ends nothing."""
    subject = schedule(interval=60)
    for age in (0, 5):
        subject.failed(error, START + age)
        assert subject.in_doubt
        assert subject.delay(START + age) <= 5, "it is asked again soon"
    with pytest.raises(type(error)) as caught:
        subject.failed(error, START + 10)
    assert caught.value is error
    refuted, mixed = schedule(), schedule()
    for age in (0, 20, 40, 60):
        refuted.failed(error, START + age)
        refuted.observe_unchanged()
        mixed.failed(error if age % 40 else api_error(NotFoundError), START + age)


@pytest.mark.parametrize(
    "error",
    [error for error in (*TRANSIENT, *FINAL, api_error(NotFoundError)) if not error.is_ours],
    ids=lambda e: type(e).__name__,
)
def test_a_tolerant_wait_is_ended_by_no_error(error: OperationsError) -> None:
    """A sensor's silent_fail goes on."""
    subject = schedule(tolerant=True)
    subject.failed(error, START + 3600)
    assert subject.done is None


# --- 404 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moments", "believed"),
    [
        ([0], False),
        ([0, 3600], False),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9.99], False),
        ([0, 1, 10], True),
        ([0, 10, 10], True),
        ([3600, 3601, 3602], False),
        ([3600, 3601, 3610], True),
    ],
)
@pytest.mark.parametrize("was_seen", [False, True])
def test_a_404_is_believed_after_ten_seconds_and_three_times(
    moments: list[float], believed: bool, was_seen: bool
) -> None:
    """Row A3: at the beginning as later, of an operation that was seen as of one that was not."""
    subject, error = schedule(), api_error(NotFoundError)
    if was_seen:
        subject.observe(poll())
    for moment in moments[:-1]:
        subject.failed(error, START + moment)
        assert subject.in_doubt
    if believed:
        with pytest.raises(NotFoundError):
            subject.failed(error, START + moments[-1])
    else:
        subject.failed(error, START + moments[-1])
    assert subject.in_doubt is not believed


@pytest.mark.parametrize("seen", [PollSchedule.observe_unchanged, lambda subject: subject.observe(poll())])
def test_a_success_refutes_every_404_before_it(seen: Any) -> None:
    """Row A3: 404, 200, 404, … for ever ends no wait."""
    subject, error = schedule(), api_error(NotFoundError)
    for moment in range(0, 1000, 100):
        subject.failed(error, START + moment)
        subject.failed(error, START + moment + 50)
        seen(subject)
        assert not subject.in_doubt


def test_trouble_of_our_own_is_raised_by_a_tolerant_wait_too() -> None:
    """Whoever waits reads the connection again; nothing else would."""
    with pytest.raises(CredentialsError):
        schedule(tolerant=True).failed(CredentialsError("no key"), START)


def test_only_while_the_last_response_was_a_404_polls_come_sooner() -> None:
    """Neither after another error, nor once it is believed, by a wait that no error ends."""
    subject = schedule(interval=300.0, tolerant=True)
    subject.failed(api_error(NotFoundError), START)
    subject.failed(api_error(UnavailableError), START + 1)
    assert subject.delay(START + 1) == 300.0
    for moment in (2.0, 20.0):
        subject.failed(api_error(NotFoundError), START + moment)
    assert (subject.in_doubt, subject.delay(START + 20)) == (False, 300.0)


def test_an_error_that_passes_leaves_a_404_in_doubt() -> None:
    """A 503 between two 404s is no success."""
    subject = schedule()
    for moment, kind in enumerate([NotFoundError, UnavailableError, NotFoundError, UnavailableError]):
        subject.failed(api_error(kind), START + moment)
    with pytest.raises(NotFoundError):
        subject.failed(api_error(NotFoundError), START + 10)


def test_while_a_404_is_in_doubt_polls_come_sooner() -> None:
    """After 1, 2 and 4 s, and when the ten are over; never later than without it, nor before Retry-After is."""
    subject, error, now = schedule(interval=300.0), api_error(NotFoundError), START
    for pause in (1.0, 2.0, 4.0, 3.0):
        subject.failed(error, now)
        assert subject.delay(now) == pause
        now += pause
    short = schedule(interval=1.5)
    for _ in range(2):
        short.failed(error, START)
    assert short.delay(START) == 1.5
    told = schedule()
    told.failed(api_error(NotFoundError, retry_after=30.0), START)
    assert told.delay(START) == 30.0
    told.observe_unchanged()
    assert told.delay(START + 600) == pytest.approx(30.0)


def test_absence_is_one_rule_without_a_wait() -> None:
    """What the flows and an adoption ask, who have no schedule."""
    subject = Absence()
    assert [subject.note(now) for now in (5.0, 6.0, 14.9)] == [False] * 3
    assert subject.note(15.0)
    assert subject.is_believed
    subject.refute()
    assert not subject.is_believed
    assert not subject.note(16.0)


# --- trouble of our own ----------------------------------------------------------------------------


def test_trouble_of_our_own_is_said_when_it_begins_when_it_changes_and_every_hour() -> None:
    """Rows A2, A10: what is missing, and since when; anything else is raised."""
    subject = Trouble()
    first = subject.note(CredentialsError("no key"), 1_700_000_000.0)
    assert first == (
        "cannot send requests since 2023-11-14T22:13:20+00:00, will read the connection again and try on: no key"
    )
    assert subject.note(CredentialsError("still none"), 1_700_000_010.0) is None
    changed = subject.note(TransportError("no token server"), 1_700_000_020.0)
    assert changed is not None
    assert "since 2023-11-14T22:13:20" in changed
    assert subject.note(TransportError("no token server"), 1_700_003_600.0) is None
    assert subject.note(TransportError("no token server"), 1_700_003_620.0) is not None
    with pytest.raises(PermissionDeniedError):
        subject.note(api_error(PermissionDeniedError), 1_700_003_630.0)


def test_after_trouble_of_our_own_the_pauses_grow_to_a_minute() -> None:
    """The first ones are short: a new pod has its credentials soon."""
    subject, pauses = Trouble(), []
    for _ in range(8):
        subject.note(CredentialsError("no key"), 0.0)
        pauses.append(subject.delay())
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


# --- what is said ----------------------------------------------------------------------------------


def test_lines_are_said_only_on_a_change() -> None:
    """State, progress by the percent, message and outcome are each worth one line, and a repetition none."""
    subject = schedule()
    seen = [
        {},
        {},
        {"metadata": {"state": "PENDING"}},
        {"metadata": {"state": "PENDING"}},
        {"metadata": {"progressPercent": 10}},
        {"metadata": {"progressPercent": 10.5}},
        {"metadata": {"progressPercent": 11}},
        {"metadata": {"progressPercent": 11, "statusMessage": "copying"}},
        {"metadata": {"progressPercent": 11, "statusMessage": "copying", "updateTime": "2026-11-01T10:00:00Z"}},
        {"metadata": {"progressPercent": 11, "statusMessage": "copying", "requestedCancellation": True}},
        {"done": True, "error": {"code": 1}},
        {"done": True, "error": {"code": 1}},
    ]
    assert [subject.observe(poll(**fields)) for fields in seen] == [
        "RUNNING",
        None,
        "PENDING",
        None,
        "RUNNING · 10%",
        None,
        "RUNNING · 11%",
        "RUNNING · 11% · copying",
        None,
        "CANCELLING · 11% · copying",
        "CANCELLED",
        None,
    ]


def test_trouble_is_said_when_it_begins_or_changes() -> None:
    """A hundred errors of one kind are one line; another kind, or the same after a recovery, is a new one."""
    subject = schedule()
    unavailable, lost = api_error(UnavailableError), TransportError("no connection")
    steps: list[OperationsError | Operation] = [unavailable, unavailable, lost, lost, poll(), poll(), lost]
    lines = [
        subject.observe(step) if isinstance(step, Operation) else subject.failed(step, START + 60) for step in steps
    ]
    assert [line is not None for line in lines] == [True, False, True, False, True, False, True]
    assert lines[2] == "poll failed, will try again: no connection"


def test_done_is_what_the_last_poll_showed() -> None:
    """The wait has ended once a poll shows a finished operation, and not before."""
    subject = schedule()
    assert subject.done is None
    subject.observe(poll())
    assert subject.done is None
    finished = poll(done=True)
    subject.observe(finished)
    assert subject.done is finished


def test_polls_are_counted() -> None:
    """Polls count alike whether they fail or not."""
    subject = schedule()
    for step in itertools.islice(itertools.cycle([True, False]), 6):
        if step:
            subject.observe(poll())
        else:
            subject.failed(TransportError("x"), START)
    assert subject.polls == 6


# -- `:wait` in the place of a poll -----------------------------------------------------------------------------------


def polled(**arguments: object) -> PollSchedule:
    """A schedule after its first poll."""
    schedule = PollSchedule(started=0.0, **arguments)  # type: ignore[arg-type]
    schedule.polls = 1
    return schedule


def test_the_first_poll_is_a_get() -> None:
    """It shows at once what is wrong with the name, and how far the operation is."""
    assert LongPolls(True).timeout([PollSchedule(started=0.0)], 0.0) == 0
    assert LongPolls(True).timeout([polled()], 0.0) == LONG_POLL_SECONDS


def test_a_service_without_it_gets_none() -> None:
    """What is not offered is not requested."""
    assert LongPolls(False).timeout([polled()], 0.0) == 0


def test_options_keep_their_meaning() -> None:
    """No longer than the interval, not beyond the deadline, and not where the interval grows by Airflow's formula."""
    assert LongPolls(True).timeout([polled(interval=10.0)], 0.0) == 10
    assert LongPolls(True).timeout([polled(interval=1.5)], 0.0) == 1.5
    assert LongPolls(True).timeout([polled(deadline=Deadline(7.0, "timeout", 7.0))], 2.0) == 5
    assert LongPolls(True).timeout([polled(exponential_backoff=True)], 0.0) == 0


def test_all_who_wait_for_it_agree() -> None:
    """The most impatient one decides."""
    assert LongPolls(True).timeout([polled(), polled(interval=3.0)], 0.0) == 3


def test_disappointments_in_a_row_end_it_for_a_while() -> None:
    """One that waited well makes good for one that did not; two in a row do not come back for ten minutes."""
    polls = LongPolls(True)
    polls.failed(0.0)
    polls.judge(30.0, 29.0, 30.0)
    polls.failed(31.0)
    assert polls.usable(32.0)
    polls.judge(30.0, 0.1, 33.0)
    assert not polls.usable(33.0)
    assert polls.usable(33.0 + LONG_POLL_PAUSE_SECONDS)


def test_at_the_deadline_it_says_what_was_seen_last() -> None:
    """C5: "still running" only if the last poll showed that; a poll that succeeds makes up for those that failed."""
    deadline = Deadline(START + 90.0, "sensor_timeout", 90.0)
    for error in (api_error(NotFoundError), TransportError("no route."), CredentialsError("no key")):
        subject = schedule(deadline=deadline)
        subject.observe(poll())
        with contextlib.suppress(CredentialsError):
            subject.failed(error, START)
        words = f"the sensor timeout of 90 s passed, and the last poll failed ({str(error).rstrip('.')}): {NAME}"
        with pytest.raises(WaitTimeoutError) as caught:
            subject.check_deadline(START + 90.0, NAME)
        assert (str(caught.value), caught.value.last_error) == (words, str(error))
        subject.observe(poll())
        with pytest.raises(WaitTimeoutError, match=r"^still running at the sensor timeout of 90 s: ") as caught:
            subject.check_deadline(START + 90.0, NAME)
        assert caught.value.last_error is None


def test_equal_lines_are_one_object_and_none_is_kept_for_ever() -> None:
    """B19: a line of which thousands are equal is kept once, and lines that nobody shows any more are let go."""
    first, second = schedule(), schedule()
    line = first.observe(poll(metadata={"statusMessage": "copying"}))
    assert second.observe(poll(metadata={"statusMessage": "copying"})) is line
    for number in range(3000):
        first.observe(poll(metadata={"statusMessage": f"row {number}"}))
    assert polling._shared.cache_info().currsize <= 1024
