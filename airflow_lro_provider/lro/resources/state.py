"""What the state of a resource says of its creation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# The words of the 400 resources with a state that the discovery documents of google-api-python-client 2.202.0 create
# by an operation; https://google.aip.dev/216 has those in the first line.
_UNFINISHED = re.compile(
    r"(?!SUCCE)(?:.*_)?(?:CREATING|PENDING|DELET\w+|\w*FAIL\w+"
    r"|PROVISIONING|DEPROVISION\w+|INITIALIZING|BOOTSTRAPPING|STARTING|PREPARING|DEPLOYING|BUILDING|IMPORTING|RESTORING"
    r"|QUEUED|ACTIVATING|ENABLING|IN_PROGRESS|TERMINAT\w+|ERROR\w*|INVALID|CANCELLED|REJECTED)(?:_.*)?"
)
_FIELDS = ("state", "status", "lifecycleState", "provisioningState")


def unfinished_state(resource: Mapping[str, Any]) -> str | None:
    """Its state, if that says that it is being made or deleted, or that making it has failed.

    =====================================  ==========================================================
    ``{"state": "CREATING"}``              372 kinds of resources
    ``{"state": {"code": "CREATING"}}``    33, of which Dataplex' and Network Services' are some
    ``{"status": {"state": "ERROR"}}``     18, among them Dataproc's clusters
    =====================================  ==========================================================

    ``None`` for any other, such as UPDATING or SUSPENDED, and for a resource without a state.
    """
    for name in _FIELDS:
        given = resource.get(name)
        inner = [given.get(part) for part in ("state", "code")] if isinstance(given, Mapping) else [given]
        for state in inner:
            if isinstance(state, str) and _UNFINISHED.fullmatch(state):
                return state
    return None
