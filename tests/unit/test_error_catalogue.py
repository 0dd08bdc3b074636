"""docs/errors.md is what the code makes of the bodies that Google has sent."""

from __future__ import annotations

from airflow_lro_provider.lro import errors
from airflow_lro_provider.lro.status import HTTP_CODES
from tests.error_catalogue import BODIES, PAGE, entries, render


def test_the_page_is_what_is_generated() -> None:
    """What it must show 5: `python -m tests.error_catalogue` writes it."""
    assert PAGE.read_text(encoding="utf-8") == render()


def test_every_code_is_there() -> None:
    """What it must show 5: each HTTP code of an error that a wait or a start meets, and every class of the tree."""
    assert {body.http for body in BODIES} >= {400, 401, 403, 404, 409, 429, 501, 503} & set(HTTP_CODES.values())
    shown = {entry.error.partition(",")[0] for entry in entries()}
    tree = {name for name, thing in vars(errors).items() if isinstance(thing, type) and name.endswith("Error")}
    bases = {"OperationsError", "ApiError", "InvalidRequestError", "ForbiddenEndpointError", "WaitTimeoutError"}
    assert tree - bases - shown == set()


def test_everything_says_what_to_do() -> None:
    """What it must show 5: no text ends with what is wrong."""
    for entry in entries():
        assert len(entry.text) > 60
        assert "abc" not in entry.text.partition("key=")[2]
