"""When `:wait` takes the place of a look, with the clock in the test's hand."""

from __future__ import annotations

from airflow_lro_provider.lro.longpoll import LONGEST, REST, LongPolls
from airflow_lro_provider.lro.polling import Deadline, PollSchedule


def looked(**arguments: object) -> PollSchedule:
    """A watch after its first look."""
    watch = PollSchedule(started=0.0, **arguments)  # type: ignore[arg-type]
    watch.looks = 1
    return watch


def test_the_first_look_is_a_get() -> None:
    """It shows at once what is wrong with the name, and how far the operation is."""
    assert LongPolls(True).timeout([PollSchedule(started=0.0)], 0.0) == 0
    assert LongPolls(True).timeout([looked()], 0.0) == LONGEST


def test_a_service_without_it_gets_none() -> None:
    """What is not offered is not asked for."""
    assert LongPolls(False).timeout([looked()], 0.0) == 0


def test_options_keep_their_meaning() -> None:
    """No longer than the interval, not beyond the deadline, and not where the interval grows by Airflow's formula."""
    assert LongPolls(True).timeout([looked(interval=10.0)], 0.0) == 10
    assert LongPolls(True).timeout([looked(interval=0.5)], 0.0) == 0
    assert LongPolls(True).timeout([looked(deadline=Deadline(7.0, "timeout", 7.0))], 2.0) == 5
    assert LongPolls(True).timeout([looked(exponential_backoff=True)], 0.0) == 0


def test_all_who_wait_for_it_agree() -> None:
    """The most impatient one decides."""
    assert LongPolls(True).timeout([looked(), looked(interval=3.0)], 0.0) == 3


def test_disappointments_in_a_row_end_it_for_a_while() -> None:
    """One that waited well makes good for one that did not; two in a row do not come back for ten minutes."""
    polls = LongPolls(True)
    polls.failed(0.0)
    polls.judge(30.0, 29.0, 30.0)
    polls.failed(31.0)
    assert polls.usable(32.0)
    polls.judge(30.0, 0.1, 33.0)
    assert not polls.usable(33.0)
    assert polls.usable(33.0 + REST)
