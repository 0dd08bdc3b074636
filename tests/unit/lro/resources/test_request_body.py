"""What people write in a body, and the JSON that Google's APIs read."""

from __future__ import annotations

import io
import json
import math
from array import array
from collections import OrderedDict, UserString, deque
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from airflow_lro_provider.lro.errors import InvalidReferenceError
from airflow_lro_provider.lro.resources.request_body import read_body

EAST = timezone(timedelta(hours=2))


class Lazy(Sequence[Any]):
    """As the output of a mapped task: a sequence that is no list."""

    def __init__(self, *values: Any) -> None:
        self._values = values

    def __getitem__(self, index: Any) -> Any:
        return self._values[index]

    def __len__(self) -> int:
        return len(self._values)


class Tier(str, Enum):
    BASIC = "BASIC"


class Plain(Enum):
    DAY = date(2026, 1, 31)


class Number(IntEnum):
    TWO = 2


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Lazy("gs://a", Lazy(1)), ["gs://a", [1]]),
        ((1, "a"), [1, "a"]),
        ({"a"}, ["a"]),
        ((n for n in (1, 2)), [1, 2]),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.values(), [1]),
        (map(str, [1]), ["1"]),
        (deque([1]), [1]),
        (range(2), [0, 1]),
        (array("i", [1, 2]), [1, 2]),
        (MappingProxyType({"a": OrderedDict(b=Lazy())}), {"a": {"b": []}}),
        (datetime(2026, 1, 31, 10, tzinfo=timezone.utc), "2026-01-31T10:00:00Z"),
        (datetime(2026, 1, 31, 10, 0, 0, 250_000, tzinfo=EAST), "2026-01-31T08:00:00.250000Z"),
        (date(2026, 1, 31), "2026-01-31"),
        (time(10, 30), "10:30:00"),
        (timedelta(minutes=1, seconds=30), "90s"),
        (timedelta(seconds=-1.5), "-1.5s"),
        (timedelta(0), "0s"),
        (timedelta(days=10), "864000s"),
        (Decimal("1.50"), 1.5),
        (Decimal("9223372036854775807"), 9223372036854775807),
        (Decimal("1E+3"), 1000),
        (Decimal("NaN"), "NaN"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (Decimal("-Infinity"), "-Infinity"),
        (Fraction(1, 4), 0.25),
        (Tier.BASIC, "BASIC"),
        (Plain.DAY, "2026-01-31"),
        (Number.TWO, 2),
        ({Tier.BASIC: 1, 7: 2}, {"BASIC": 1, "7": 2}),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (b"\x00\xff", "AP8="),
        (memoryview(b"\x00\xff"), "AP8="),
        (UserString("a"), "a"),
        (Decimal("sNaN"), "NaN"),
        (Decimal("0.1"), 0.1),
        (Decimal("-12345678901234567890123"), -12345678901234567890123),
        ([None, True, "a", 1, 1.5, {}], [None, True, "a", 1, 1.5, {}]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_people_write(value: Any, plain: Any) -> None:
    """B8: lazy sequences, dates, durations, Decimals and enums are written as Google's APIs read them."""
    body = read_body({"field": value})
    assert body == {"field": plain}
    assert json.loads(json.dumps(body, allow_nan=False)) == body
    assert type(body["field"]) is type(plain)  # a bool is no int, and nothing of a subclass is left


def test_pendulum() -> None:
    """B8: what Airflow's templates give for a date, rendered natively."""
    pendulum = pytest.importorskip("pendulum")
    body = {
        "at": pendulum.datetime(2026, 1, 31, 10, tz="Europe/Berlin"),
        "day": pendulum.date(2026, 1, 31),
        "long": pendulum.duration(hours=1),
        "interval": pendulum.datetime(2026, 1, 2) - pendulum.datetime(2026, 1, 1),
        "back": pendulum.datetime(2026, 1, 1) - pendulum.datetime(2026, 1, 1, 0, 0, 1, 500_000),
    }
    written = {"at": "2026-01-31T09:00:00Z", "day": "2026-01-31", "long": "3600s", "interval": "86400s"}
    assert read_body(body) == {**written, "back": "-1.5s"}


def test_pydantic() -> None:
    """B8: a model is its fields, in the forms that Google reads, by the names that it has outside."""
    pydantic = pytest.importorskip("pydantic")

    class Instance(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        display_name: str = pydantic.Field(default="n", serialization_alias="displayName")
        ttl: timedelta = timedelta(seconds=90)
        tier: Tier = Tier.BASIC

    plain = {"displayName": "n", "ttl": "90s", "tier": "BASIC"}
    assert read_body({"instance": Instance(), "all": [Instance()]}) == {"instance": plain, "all": [plain]}
    assert read_body(Instance()) == plain


def test_pydantic_1() -> None:
    """L2: a model of version 1 is what one of version 2 is, and no list of pairs."""
    pydantic = pytest.importorskip("pydantic.v1")

    class Disk(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        size_gb: int = pydantic.Field(default=1, alias="sizeGb")
        ttl: timedelta = timedelta(seconds=90)

    class Sizes(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        __root__: list[int] = [1]

    disk = {"sizeGb": 1, "ttl": "90s"}
    assert read_body({"disk": Disk(), "all": [Disk()], "sizes": Sizes()}) == {"disk": disk, "all": [disk], "sizes": [1]}
    assert read_body(Disk()) == disk


class Point(NamedTuple):
    x: int = 1
    y: int = 2


class Table:
    """As a DataFrame: iterating it gives the names of its columns."""

    def __iter__(self) -> Iterator[str]:
        return iter(("a", "b"))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Point(), "is of type Point, which has no form in JSON. Give its `_asdict()` for an object"),
        ({"a": "b"}.items(), "is of type dict_items, which has no form in JSON. Give the dict itself"),
        (io.StringIO("SELECT 1\nFROM t"), "is of type StringIO, which has no form in JSON. Give what is in it"),
        (Table(), "is of type Table, which has no form in JSON. Give a list, if it is meant as one"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_list_is_refused(value: Any, words: str) -> None:
    """L2: what can be iterated, and is meant as something else, is no list, at any depth."""
    with pytest.raises(InvalidReferenceError) as caught:
        read_body({"field": [value]})
    assert str(caught.value).startswith(f"`body.field[0]` {words}")


@pytest.mark.parametrize("kind", ["Undefined", "StrictUndefined", "ChainableUndefined", "DebugUndefined"])
def test_a_template_of_nothing_is_refused(kind: str) -> None:
    """B8: native rendering makes an object of it that can be iterated; it is no empty list."""
    nothing = getattr(pytest.importorskip("jinja2"), kind)(name="x")
    with pytest.raises(InvalidReferenceError, match=r"^`body\.a\[0\]` is undefined"):
        read_body({"a": [nothing]})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"a": [{"b": object()}]}, r"^`body\.a\[0\]\.b` is of type object, which has no form in JSON"),
        ({"a": 1j}, r"^`body\.a` is of type complex"),
        ({"a": datetime(2026, 1, 31)}, r"^`body\.a` \(2026-01-31T00:00:00\) has no time zone"),
        ({"a": {None: 1}}, r"^a key in `body\.a` is of type NoneType"),
        ({"a": {(1, 2): 1}}, r"^a key in `body\.a` is of type tuple"),
        ({"a": {1: "x", "1": "y"}}, r"^two keys of `body\.a` are the same"),
        ({"a": [Decimal("1e400")]}, r"^`body\.a\[0\]` is too large"),
        ({"a": Decimal("-1e999999")}, r"^`body\.a` is too large"),
        ({"a": 10**5000}, r"^`body\.a` is too large"),
        ({"a": Fraction(10**400)}, r"^`body\.a` is too large"),
        ({"a": Decimal("0.1234567890123456789")}, r"^`body\.a` \(0\.1234567890123456789\) has more digits"),
        ({"a": Decimal("1e-400")}, r"^`body\.a` \(1E-400\) has more digits"),
        ({"a": datetime.max.replace(tzinfo=timezone(-timedelta(hours=5)))}, r"^`body\.a` \(9999-12-31T.* years 1 to"),
        ({"a": datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))}, r"^`body\.a` \(0001-01-01T.* years 1 to"),
    ],
)
def test_what_has_no_form_in_json_is_refused(body: Any, words: str) -> None:
    """B8: it is said which part of the body it is."""
    with pytest.raises(InvalidReferenceError, match=words):
        read_body(body)


def test_a_body_that_contains_itself_is_refused() -> None:
    """B8: and ends no process."""
    body: dict[str, Any] = {}
    body["a"] = [body]
    with pytest.raises(InvalidReferenceError, match="contains itself"):
        read_body(body)


@pytest.mark.parametrize("body", ["{}", [], 3, "{'a': 1}"])
def test_a_body_is_an_object(body: Any) -> None:
    """Anything else is refused, with a hint for the dict that Jinja made a string of."""
    with pytest.raises(InvalidReferenceError, match="must be a dict") as caught:
        read_body(body)
    assert ("Jinja" in str(caught.value)) is isinstance(body, str)
