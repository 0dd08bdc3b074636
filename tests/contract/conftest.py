"""What the tests of credentials share: the servers on the way to a token, and a machine that is not logged in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.identity_servers import IdentityServers

VARIABLES = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "GCLOUD_PROJECT",
    "GOOGLE_CLOUD_QUOTA_PROJECT",
    "GOOGLE_CLOUD_UNIVERSE_DOMAIN",
    "GOOGLE_API_USE_CLIENT_CERTIFICATE",
    "GOOGLE_API_USE_MTLS_ENDPOINT",
    "GOOGLE_API_CERTIFICATE_CONFIG",
)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that is not logged in, and a process that has no identity yet."""
    from airflow_lro_provider.lro.auth import credentials

    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(home / "gcloud"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(credentials, "_identities", {})


@pytest.fixture
def servers(nobody: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[IdentityServers]:
    """Every server on the way to a token, in place of Google's own hosts."""
    from google.auth import iam
    from google.auth.compute_engine import _metadata
    from google.oauth2 import credentials as login

    from airflow_lro_provider.lro.auth import credentials

    with IdentityServers() as servers:
        monkeypatch.setattr(iam, "_IAM_ENDPOINT", servers.url + "/v1/projects/-/serviceAccounts/{}:generateAccessToken")
        monkeypatch.setattr(login, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{servers.url}/token")
        monkeypatch.setattr(credentials, "SECRET_MANAGER", servers.url)
        # google-auth reads these variables when it is imported; the one of the address with each request.
        monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", servers.host)
        monkeypatch.setenv("GCE_METADATA_IP", servers.host)
        monkeypatch.setattr(_metadata, "_METADATA_DETECT_RETRIES", 1)
        yield servers
