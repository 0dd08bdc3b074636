"""Operations as other clients hand them over: objects that have a name somewhere.

=============================================  =====================================================
object                                         where its name is
=============================================  =====================================================
``google.api_core.operation.Operation``, and   ``.operation.name``
its async sibling: what generated clients give
``google.longrunning.operations_pb2``          ``.name``
a task of the Earth Engine client              ``.operation_name``, once it is started
an object with ``.operation``                  that, if it is a name or a dict
=============================================  =====================================================

None of these libraries is imported. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_lro_provider.lro.errors import InvalidReferenceError
from airflow_lro_provider.lro.resources.names import OperationReference

__all__ = ["operation_in"]


def operation_in(returned: Any) -> str | Mapping[str, Any] | OperationReference:
    """What :func:`read_reference` takes, found in what a client returned.

    :raises InvalidReferenceError: if there is no operation in it.
    """
    if isinstance(returned, (str, Mapping, OperationReference)):
        return returned
    inner = getattr(returned, "operation", None)
    if isinstance(inner, (str, Mapping)) and inner:
        return inner
    names = (getattr(inner, "name", None), getattr(returned, "operation_name", None), getattr(returned, "name", None))
    for name in names:
        if isinstance(name, str) and name:
            return name
    hint = " Was it started?" if hasattr(returned, "name") or inner is not None else ""
    raise InvalidReferenceError(
        f"no operation in {type(returned).__name__} ({returned!r:.100}): expected its name, its dict, or an object with"
        f" .name, .operation or .operation.name.{hint}"
    )
