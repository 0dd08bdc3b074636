"""What is quoted back: without secrets, and otherwise as it was."""

from __future__ import annotations

import time

import pytest

from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.errors import OperationsError
from airflow_lro_provider.lro.redaction import HIDDEN, in_brief, without_credentials, without_secrets
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import read_parent, read_reference

SECRET = "s3cret-S3CRET"
NAME = "projects/p/locations/us-central1/operations/o"
HOST = "datafusion.googleapis.com"


@pytest.mark.parametrize(
    "read",
    [
        lambda: read_reference(f"https://{HOST}/v1/{NAME}?access_token={SECRET}"),
        lambda: read_reference(f"{NAME}?key={SECRET}", "datafusion"),
        lambda: read_reference(f"https://me:{SECRET}@{HOST}/v1/{NAME}"),
        lambda: read_reference(f"https://me:{SECRET * 30}@{HOST}/v1/{NAME}"),
        lambda: read_reference(f"//me:{SECRET}@{HOST}/{NAME}"),
        lambda: read_reference(f"user:{SECRET}@{HOST}/{NAME}", "datafusion"),
        lambda: read_parent(f"projects/p/locations/l?access_token={SECRET}", "datafusion"),
        lambda: read_method(f"https://me:{SECRET}@{HOST}/v1/projects/p/locations/l/instances", "POST"),
        lambda: read_method(f"projects/p//instances?key={SECRET}", "POST", "datafusion"),
        lambda: find_service(f"user:{SECRET}@{HOST}"),
        lambda: find_service(f"https://{HOST}?token={SECRET}"),
        lambda: ConnectionSettings.from_extra({"api_endpoint": f"http://127.0.0.1:1?key={SECRET}"}),
        lambda: ConnectionSettings.from_extra({"api_endpoint": f"https://me:{SECRET}@127.0.0.1"}),
        lambda: ConnectionSettings.from_extra({"universe_domain": f"user:{SECRET}@x"}),
    ],
)
def test_what_was_given_is_quoted_without_its_secret(read: object) -> None:
    """B16: parameters and accounts of names, methods, parents, services and endpoints are hidden."""
    with pytest.raises(OperationsError) as caught:
        read()  # type: ignore[operator]
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://h/v1/o?alt=json&access_token=x1y2", f"https://h/v1/o?alt=json&access_token={HIDDEN}"),
        ("https://storage/o?X-Goog-Signature=ab12&x=1", f"https://storage/o?X-Goog-Signature={HIDDEN}&x=1"),
        ("client_secret=ab12&grant_type=x", f"client_secret={HIDDEN}&grant_type=x"),
        ("the key AIzaSyA1234567890 is invalid", f"the key {HIDDEN} is invalid"),
        ("https://me:pw@host:8080/x", f"https://{HIDDEN}@host:8080/x"),
        ("https://token@host/x", f"https://{HIDDEN}@host/x"),
        ("me:pw@host", f"{HIDDEN}@host"),
        ("user:pw@host", f"{HIDDEN}@host"),
        ("https://me:pa", f"https://{HIDDEN}"),
    ],
)
def test_secrets_of_urls_are_hidden(text: str, left: str) -> None:
    """B16: what may stand in a URL, an API key, and an account that was cut off."""
    assert without_credentials(text) == left
    assert without_credentials(left) == left
    assert str(OperationsError(text)) == left


@pytest.mark.parametrize(
    "text",
    [
        "https://datafusion.googleapis.com:443/v1/projects/p?alt=json",
        "http://127.0.0.1:8900/datafusion/v1",
        "http://[::1]:8900/v1",
        "user:alice@example.com and serviceAccount:robot@p.iam.gserviceaccount.com are no members",
        "deleted:serviceAccount:robot@p.iam.gserviceaccount.com?uid=1",
        "robot@p.iam.gserviceaccount.com",
        "projects/p/locations/l/operations/a:b:c",
        "Quota 'key' at 10:30",
    ],
)
def test_nothing_else_is_hidden(text: str) -> None:
    """B16: hosts, ports, members of IAM policies and plain parameters stay."""
    assert without_credentials(text) == text


def test_the_page_that_helps_is_quoted() -> None:
    """C11: without application default credentials, the error has the URL of Google's help page."""
    page = "https://cloud.google.com/docs/authentication/external/set-up-adc"
    said = f"Your default credentials were not found. To set up Application Default Credentials, see {page} for more."
    assert page in in_brief(said)
    assert in_brief(f"see https://h.example/{'aB3' * 20} there") == f"see https://h.{HIDDEN} there"


@pytest.mark.parametrize(
    "piece", ["%", "?", "token", "?token", "//", "a:", "@", "user:", "a@", "/a", "eyJ", "ya29.", "=", "key="]
)
def test_long_texts_take_no_long_time(piece: str) -> None:
    """B16: no text makes an expression try everything with everything; CPU time, a fiftieth of which is usual."""
    begin = time.process_time()
    for text in (piece * 20_000, f"https://{piece * 20_000}", f"x {piece * 20_000}"):
        in_brief(text)
        without_secrets(text)
    assert time.process_time() - begin < 2.0
