"""Operations as other clients hand them over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_lro_provider.lro.errors import InvalidReferenceError
from airflow_lro_provider.lro.resources.foreign import operation_in
from airflow_lro_provider.lro.resources.names import read_reference

NAME = "projects/p/operations/o"


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (NAME, NAME),
        ({"name": NAME}, {"name": NAME}),
        (SimpleNamespace(name=NAME, done=False), NAME),
        (SimpleNamespace(operation=SimpleNamespace(name=NAME), name="other"), NAME),
        (SimpleNamespace(operation=NAME), NAME),
        (SimpleNamespace(operation={"name": NAME}), {"name": NAME}),
        (SimpleNamespace(operation=lambda: None, name=NAME), NAME),
        (SimpleNamespace(operation_name=NAME, name=None, id="o"), NAME),
        (read_reference(NAME, "earthengine"), read_reference(NAME, "earthengine")),
    ],
)
def test_where_the_name_is(returned: Any, found: Any) -> None:
    """Futures, messages, tasks of the Earth Engine client, and what is none of these."""
    assert operation_in(returned) == found


def test_the_message_of_google_itself() -> None:
    """What google-api-core's futures have inside, where googleapis-common-protos is installed."""
    operations_pb2 = pytest.importorskip("google.longrunning.operations_pb2")
    message = operations_pb2.Operation(name=NAME)
    assert operation_in(message) == NAME
    assert operation_in(SimpleNamespace(operation=message)) == NAME


@pytest.mark.parametrize(
    ("returned", "hint"), [(None, False), (3, False), (SimpleNamespace(name=None), True), ([NAME], False)]
)
def test_what_has_no_operation(returned: Any, hint: bool) -> None:
    """An error that names the type; of a task without a name it asks whether it was started."""
    with pytest.raises(InvalidReferenceError, match=f"no operation in {type(returned).__name__}") as caught:
        operation_in(returned)
    assert ("Was it started?" in str(caught.value)) is hint
