"""What no response means. Over real sockets: tests/contract/test_trust.py, tests/hostile."""

from __future__ import annotations

import ssl

import aiohttp
import pytest
import requests

from airflow_lro_provider.lro.errors import TransportError, UnreachableError
from airflow_lro_provider.lro.http.failures import NotConnectedError, explained

URL = "https://me:s3cret@datafusion.googleapis.com/v1/x?key=s3cret"
PROXY = "https://me:s3cret@proxy.example:3128"


def untrusted() -> ssl.SSLCertVerificationError:
    """A certificate that is not trusted."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "kind", "sent", "words"),
    [
        (requests.ConnectionError(), TransportError, True, "no response from datafusion.googleapis.com (Conn"),
        (TimeoutError(), TransportError, True, "no response from datafusion.googleapis.com (TimeoutError)"),
        (requests.exceptions.InvalidHeader(), TransportError, False, "no response from datafusion.googleapis.com ("),
        (aiohttp.InvalidURL("x"), TransportError, False, "no response from datafusion.googleapis.com (InvalidURL)"),
        (NotConnectedError(OSError()), TransportError, False, "no response from datafusion.googleapis.com (OSError)"),
        (
            NotConnectedError(OSError(), at_proxy=True),
            TransportError,
            False,
            "no response from the proxy https://proxy.example:3128 (OSError)",
        ),
        (NotConnectedError(OSError(), refusal=503), TransportError, False, "the proxy https://proxy.example:3128 open"),
        (NotConnectedError(OSError(), refusal=407), UnreachableError, False, "the proxy https://proxy.example:3128 op"),
        (
            NotConnectedError(untrusted()),
            UnreachableError,
            False,
            "the certificate shown for datafusion.googleapis.com is not trusted: self-signed certificate.",
        ),
        (
            NotConnectedError(untrusted(), at_proxy=True),
            UnreachableError,
            False,
            "the certificate shown for the proxy https://proxy.example:3128 is not trusted: self-signed",
        ),
    ],
)
def test_why_there_was_no_response(error: Exception, kind: type[TransportError], sent: bool, words: str) -> None:
    """B15: only what was sent over a connection may have happened, and nothing quoted is secret."""
    with pytest.raises(kind) as caught, explained(URL, PROXY, requests.RequestException, aiohttp.ClientError, OSError):
        raise error
    assert type(caught.value) is kind
    assert caught.value.may_have_happened is sent
    assert str(caught.value).startswith(words)
    assert "s3cret" not in str(caught.value)


def test_other_errors_are_not_explained() -> None:
    """B15: a mistake of ours stays one."""
    with pytest.raises(KeyError), explained(URL, PROXY, OSError):
        raise KeyError
