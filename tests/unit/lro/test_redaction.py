"""What is quoted back: without secrets, and otherwise as it was."""

from __future__ import annotations

import json
import time

import pytest

from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.errors import OperationsError
from airflow_lro_provider.lro.redaction import (
    HIDDEN,
    hide_known,
    in_brief,
    secrets_in,
    without_credentials,
    without_secrets,
)
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


PASSWORD = "hunter2-Secret"


@pytest.mark.parametrize(
    "text",
    [
        'Invalid JSON payload: {"password": "%s", "username": "root"}',
        '{"mysql":{"rootPassword":"%s","port":3306}}',
        r"{\"password\": \"%s\", \"username\": \"root\"}",
        '{"password": "x\\"%s", "username": "root"}',
        '"accessToken": "%s"',
        "client_secret: '%s'",
        "password: %s",
        "password = %s, user = root",
        "the token=%s is wrong",
        "pwd=%s;server=x",
        "DB_PASS=%s",
        "<password>%s</password>",
        '{"name": "DB_PASSWORD", "value": "%s"}',
        r"{\"name\":\"API_TOKEN\",\"value\":\"%s\"}",
        'env { name: "DB_PASSWORD" value: "%s" }',
        "Invalid value at 'mysql.password' (TYPE_STRING), %s",
        '"password":\n      "%s"',
        '"secretData": "%s"',
        "PWD=x'%s;server=x",
        "jdbc:mysql://h/db?user=root&password=%s",
        "AccountKey=%s;EndpointSuffix=core.windows.net",
        "https://h/?subscription-key=%s",
        "Authorization: Basic %s",
        "authorization=Bearer %s",
        "Set-Cookie: SID=%s; Path=/",
        '"cookie": "a=b; SID=%s"',
        "access_token%%3D%s",
        "continue=https%%3A%%2F%%2Fh%%2F%%3Faccess_token%%3D%s",
        "%%22password%%22%%253A%%22%s%%22",
        "https%%3A%%2F%%2Fuser%%3A%s%%40h%%2Fx",
        "https://user:p@%s@host/x",
        "https://user:p/%s@host/x",
        "user:p@%s@host/x",
        "sent ya29.a0AfH6%%2F%s",
        "Bearer%%2520ya29.%s",
        "Bearer%%20eyJhbGci.%s.x",
        '{"secretKey": "%s"}',
        "SECRET_KEY=%s",
        '{"pass": "%s"}',
        '{"adminPass": "%s"}',
        "dbPass=%s",
        "pass = %s",
        '{"encryptionKey": "%s"}',
        '{"authKey":"%s"}',
        '{"hmacKey":"%s"}',
        '{"clientKey": "%s"}',
        '{"authString":"%s"}',
        '{"credential": "%s"}',
        "'credentials': '%s'",
        '{"password": {"value": "%s"}}',
        r"{\"password\": {\"stringValue\": \"%s\"}}",
        '{"password": {"plaintext": "%s", "secretType": "x"}}',
        '{"password": ["%s"]}',
        '{"passwords": ["x", "%s", "y"], "user": "u"}',
        '{"passwords": ["x", "%s',
        '{"key":"DB_PASSWORD","value":{"stringValue":"%s"}}',
        '{"value": "%s", "name": "DB_PASSWORD"}',
        r"{\"value\":\"%s\",\"name\":\"DB_PASS\"}",
        '{"value": "x\\"%s", "key": "API_TOKEN"}',
        "password=no!%s",
        "password=required-%s",
    ],
)
def test_a_password_is_known_by_the_name_before_it(text: str) -> None:
    """B16, M2: in JSON, also in JSON within JSON, in URLs, headers, forms and words, percent-encoded, none by half."""
    shown = without_secrets(text % PASSWORD)
    assert PASSWORD not in shown
    assert HIDDEN in shown
    assert without_secrets(shown) == shown


@pytest.mark.parametrize(
    "secret",
    [
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "github_pat_11ABCDEFG0abcdefghijkl_abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJK",
        "glpat-AbCdEfGhIjKlMnOpQrSt",
        "xoxb-123456789012-abcdefghijkl",
        "AKIAIOSFODNN7EXAMPLE",
        "AKIAIOSFODNN7EXAMPLE / wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "Basic dXNlcjpwYXNz",
        "basic dXNlcjpwYXNzd29yZA==",
        "Basic%20dXNlcjpwYXNzd29yZA%3D%3D",
    ],
)
def test_a_key_is_known_by_its_form(secret: str) -> None:
    """B16: keys of those whom Google's services connect to, and short accounts of HTTP."""
    shown = without_credentials(f"could not use {secret} there")
    assert HIDDEN in shown
    assert secret.rpartition(" ")[2] not in shown
    assert shown.endswith(" there")


@pytest.mark.parametrize(
    "text",
    [
        "Instance edition BASIC projects/p/locations/us-central1/instances/i cannot be upgraded",
        "Basic authentication-credentials were missing",
        "Instance of tier BASIC configuration123 is not there",
        f"operations/{'bWV0dXAtc2FtcGxlL3Vz' * 6} was not found",
        "operations/eyJ0eXBlIjoiaW1wb3J0In0 was not found",
        "image nginx:1.25@sha256:0123456789abcdef was not found",
        "Unknown field ?keyRing=r&versionCode=3&design=x&kmsKeyName=k",
        "account:robot@p.iam.gserviceaccount.com lacks it",
        "Permission denied for serviceAccount:robot@p.iam.gserviceaccount.com/x",
        "mysql.rootPassword: must be set",
        "Invalid password: should have 8 characters",
        'field "password": is required',
        "Secret: projects/p/secrets/s/versions/1 was not found",
        '"secret": "projects/p/secrets/s/versions/1"',
        "Unexpected token: {",
        "maxOutputTokens: 4096 exceeds the limit, totalTokenCount: 5000",
        'Invalid JSON payload received. Unknown name "password": Cannot find field.',
        "the password > 8 characters",
        '{"name": "REGION", "value": "europe-west1"}',
        '{"value": "europe-west1", "name": "REGION"}',
        '{"value": "4096", "name": "MAX_TOKENS"}',
        '{"value": "projects/p/secrets/s", "name": "DB_PASSWORD"}',
        '{"encryptionKey": "projects/p/locations/l/keyRings/r/cryptoKeys/k"}',
        '{"kmsKeyName": "k", "keyRing": "r", "publicKey": "p"}',
        '{"password": {"secretVersion": "projects/p/secrets/s/versions/1"}}',
        '{"name": "DB_PASSWORD", "valueSource": {"secretKeyRef": {"version": "latest"}}}',
        '{"passwords": ["projects/p/secrets/s"]}',
        '{"enableTwoPass": true, "allowCredentials": false, "password": null}',
        "3 tests pass: 4 fail; the first pass; bypass=true; a compass",
        "could not load credentials: no such file",
        "GOOGLE_APPLICATION_CREDENTIALS=/etc/key.json",
        "password: required.",
        "(password: missing)",
        "token_uri: https://oauth2.googleapis.com/token",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    """B16, M2: editions, ids, digests, parameters, accounts, names of keys, and what is wrong with a password."""
    assert without_secrets(text) == text


def test_what_a_request_has_sent_is_known() -> None:
    """B16, M2: whatever stands below a telling name in a body, in the forms in which it may be quoted back."""
    body = {
        "mysql": {"password": "pässword", "port": 3306, "passcode": 123456},
        "apiKeys": ["key-1"],
        "tokenUri": "https://x",
        "secretKeyRef": {"secret": "name-1", "version": "latest"},
        "dbPassword": "projects/p/secrets/s",
        "env": [{"name": "DB_PASSWORD", "value": "value-1"}, {"name": "REGION", "value": "europe-west1"}],
        "nothing": None,
        "options": {"secretKey": "s-1", "pass": "p-1", "encryptionKey": "e-1", "authKey": "a-1", "hmacKey": "h-1"},
        "tls": {"clientKey": "c-1", "authString": "a-2", "credentials": "c-2", "kmsKeyName": "k", "bypass": "b"},
        "rootPassword": {"value": "r-1", "type": "PLAIN"},
        "labels": [{"value": {"stringValue": "v-1"}, "key": "smtp_pass"}, {"key": "pass", "type": "x"}],
        "files": {"key": {"value": "f-1"}, "secret": {"value": "name-2"}},
    }
    known = {"pässword", "p\\u00e4ssword", "123456", "key-1", "value-1", "s-1", "p-1", "e-1", "a-1", "h-1", "c-1"}
    known |= {"a-2", "c-2", "r-1", "v-1"}
    assert known == set(secrets_in(json.dumps(body).encode())) == set(secrets_in(body))
    assert secrets_in(b"") == secrets_in(b"{") == secrets_in(b"[7]") == secrets_in({}) == secrets_in(None) == []


def test_what_is_known_is_hidden_in_json() -> None:
    """M2: in texts, at any depth, also only below some keys; keys, and what decides what an error means, stay."""
    said = {"code": 3, "status": "ABORTED", "message": "ABORTED", "ABORTED": [{"a": "an ABORTED b", "n": 1, "x": None}]}
    hidden = {"message": HIDDEN, "ABORTED": [{"a": f"an {HIDDEN} b", "n": 1, "x": None}]}
    assert hide_known(["ABORTED"], said) == {**said, **hidden}
    assert hide_known(["ABORTED"], [said], {"message"}) == [{**said, "message": HIDDEN}]
    assert hide_known([], said) == said


@pytest.mark.parametrize(
    "piece",
    [
        *("%", "?", "token", "?token", "//", "a:", "@", "user:", "a@", "/a", "eyJ", "ya29.", "=", "key="),
        *("password=", "password:'", "password=\\", '\\"', "basic+", "bearer ", "%25", "%2F%2F", "//a:", "a:b@"),
        *(
            '"value":"',
            '"value":"x","name":"',
            '"value":"\\',
            'password":["',
            'password":["x",',
            'password":{"value":"x",',
        ),
        *("pass", '"pass"', "aPass=", "credentials ", "client_key", '"x","x",', "password=no!", "valuevalue"),
        *("password\n", "password',", "--", "<", "cookie:", "operations/", "-eyJ", "AKIA", "-----BEGIN", "password%3D"),
    ],
)
def test_long_texts_take_no_long_time(piece: str) -> None:
    """B16: no text makes an expression try everything with everything; CPU time, a fiftieth of which is usual."""
    begin = time.process_time()
    for text in (piece * 20_000, f"https://{piece * 20_000}", f"x {piece * 20_000}", f'password="{piece * 20_000}'):
        in_brief(text)
        without_secrets(text)
    assert time.process_time() - begin < 2.0
