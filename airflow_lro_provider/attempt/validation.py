"""Checking what a Dag author wrote, as early as it can be known.

A literal argument is checked when the Dag is parsed; one that is only known at run time (a template, an
XComArg, a mapped value) first thing in ``execute``.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_lro_provider.lro.operation import Outcome
    from airflow_lro_provider.lro.resources.catalog import Service
    from airflow_lro_provider.lro.resources.names import OperationReference

_PROJECT = "project"
"""Stands for the connection's project, which is not read when a Dag is parsed."""


def is_literal(value: Any) -> bool:
    """Whether a value is known already when the Dag is parsed."""
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    if isinstance(value, Mapping):
        return all(is_literal(part) for part in value.values())
    if isinstance(value, (list, tuple)):
        return all(is_literal(part) for part in value)
    # An XComArg is none, or something else that is resolved later.
    return value is None or isinstance(value, (bool, int, float, Decimal, date, timedelta, Enum))


@contextlib.contextmanager
def warnings_of(task_id: str) -> Iterator[None]:
    """Let what is warned of at parse time name its task.

    In a process that runs a task nothing is said: a try warns of what concerns it, and the log of one task is no place
    for all others of its file.
    """
    from airflow.providers.common.compat.sdk import get_parsing_context

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if get_parsing_context().task_id is None:
        for one in caught:
            warnings.warn(f"task {task_id!r}: {one.message}", one.category, stacklevel=4)


def check_reference(operation_name: Any, service: Any, api_version: Any, gcp_conn_id: Any, *verbs: str) -> None:
    """Check, at parse time, as much of a reference as is literal.

    :param verbs: the verbs that the service has to offer for it.
    :raises InvalidRequestError: for what can never be right.
    """
    from airflow_lro_provider.lro.resources.catalog import find_service
    from airflow_lro_provider.lro.resources.hosts import endpoint_of
    from airflow_lro_provider.lro.resources.names import read_reference

    check_service(service, api_version, *verbs)
    _refuse_task(operation_name, "operation_name")
    universe = _universe(gcp_conn_id, operation_name, service, api_version)
    if universe is not None:
        reference = read_reference(operation_name, service, api_version, universe=universe, project=_PROJECT)
        endpoint_of(reference, universe=universe)
        for verb in verbs:
            find_service(reference.service).require(verb, reference.name, reference.version)


def _universe(gcp_conn_id: Any, named: Any, service: Any, *more: Any) -> str | None:
    """The universe to check a name and its host in; ``None`` if only ``execute`` can check them."""
    from airflow_lro_provider.lro.resources.catalog import DEFAULT_UNIVERSE
    from airflow_lro_provider.lro.resources.hosts import check_unknown_host, lies_in, names_unknown_host

    if not all(map(is_literal, (named, service, *more))):
        return None
    universe = _universe_of_environment()
    if gcp_conn_id is None or lies_in(named, universe) or lies_in(service, universe):
        return universe
    if not names_unknown_host(named):
        return DEFAULT_UNIVERSE
    check_unknown_host(named)
    return None  # only a connection may name such a host


def _universe_of_environment() -> str:
    from airflow_lro_provider.lro.errors import ConnectionSettingsError
    from airflow_lro_provider.lro.resources.catalog import DEFAULT_UNIVERSE
    from airflow_lro_provider.lro.resources.hosts import universe_of_environment

    try:
        return universe_of_environment()
    except ConnectionSettingsError:  # that a variable is wrong costs no Dag its file: the task says it, if it matters
        return DEFAULT_UNIVERSE


def check_service(service: Any, api_version: Any, *verbs: str) -> None:
    """Check, at parse time, a service and a version as far as they are literal.

    :param verbs: the verbs that the service has to offer.
    :raises UnknownServiceError: with a did-you-mean, or with what it offers.
    """
    if (known := _known(service, api_version)) is not None:
        for verb in verbs:
            known[0].require(verb, version=known[1])


def _known(service: Any, api_version: Any) -> tuple[Service, str | None] | None:
    """A literal service, also by a host of the environment's universe, and its version, if that is literal, too.

    :raises UnknownServiceError: if there is no such service, or it has no such version.
    """
    from airflow_lro_provider.lro.resources.hosts import read_service

    if service is None or not is_literal(service):
        return None
    known = read_service(service, _universe_of_environment()).api
    return known, known.version(api_version) if api_version is not None and is_literal(api_version) else None


def check_method(
    method: Any,
    http_method: Any,
    body: Any,
    service: Any,
    api_version: Any,
    gcp_conn_id: Any,
    *,
    named: bool = False,
    known: bool = False,
    doubts: bool = True,
) -> None:
    """Check, at parse time, as much of a method that starts an operation as is literal.

    :param named: whether it has to say the name of the resource that it creates.
    :param known: whether its API has to be known to have it, if it deletes.
    :param doubts: whether to warn if it is not known to respond with an operation.
    :raises InvalidRequestError: for what can never be right.
    """
    from airflow_lro_provider.lro.resources.hosts import endpoint_of
    from airflow_lro_provider.lro.resources.methods import new_resource, read_method
    from airflow_lro_provider.lro.resources.request_body import read_body
    from airflow_lro_provider.lro.resources.starts import doubts_about

    if is_literal(body):
        read_body(body)
    check_service(service, api_version)
    _refuse_task(method, "method")
    universe = _universe(gcp_conn_id, method, service, http_method, api_version)
    if universe is not None:
        checked = read_method(method, http_method, service, api_version, universe=universe, project=_PROJECT)
        endpoint_of(checked, universe=universe)
        if named and is_literal(body):
            new_resource(checked, read_body(body))
        if known and checked.http_method == "DELETE":
            from airflow_lro_provider.lro.resources.deletions import check_deletion

            check_deletion(checked)
        if doubts and (words := doubts_about(checked)):
            warnings.warn(f"{words} `allow_resource=True` says that this is intended.", stacklevel=2)


def check_parent(parent: Any, service: Any, api_version: Any) -> None:
    """Check, at parse time, as much of the parent of operations that are to be cancelled as is literal.

    :raises InvalidRequestError: for what can never be right.
    """
    from airflow_lro_provider.lro.resources.names import read_parent

    check_service(service, api_version, "list", "cancel")
    _refuse_task(parent, "parent")
    universe = _universe(None, parent, service, api_version)  # a parent has no host of its own
    if universe is not None:
        read_parent(parent, service, api_version, universe=universe, project=_PROJECT)


def check_cancel(service: Any, api_version: Any) -> None:
    """Warn, at parse time, of a literal service that cannot cancel what the task is to cancel."""
    known = _known(service, api_version)
    if known and (words := known[0].cannot_cancel(version=known[1])):
        warnings.warn(f"{words} `cancel_on_kill=False` says that this is intended.", stacklevel=2)


def warn_if_it_runs_on(log: Any, reference: OperationReference, cancels: bool) -> None:
    """Log a warning if a task is to cancel its operation, and the service cannot do that."""
    from airflow_lro_provider.lro.resources.catalog import find_service

    words = find_service(reference.service).cannot_cancel(reference.name, reference.version)
    if cancels and words:
        log.warning("%s", words)


def _refuse_task(value: Any, argument: str) -> None:
    """Refuse a task in the place of what it returns: Airflow would render it as its own name."""
    from airflow_lro_provider.lro.errors import InvalidReferenceError
    from airflow_lro_provider.lro.resources.names import hint_for

    if hasattr(value, "task_id") and (hint := hint_for(value, argument)):
        raise InvalidReferenceError(f"`{argument}` is {type(value).__name__}{hint}")


def check_flags(**flags: Any) -> None:
    """Check arguments that are true or false: the text "false" would count as true.

    :raises ValueError: for anything else.
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"`{name}` must be True or False, got {value!r:.100}")


def check_result_check(value: Any) -> None:
    """Check that a ``result_check`` can be called.

    :raises ValueError: if it cannot.
    """
    if value is not None and not callable(value):
        raise ValueError(f"`result_check` must be a function of the operation's dict, got {value!r:.100}")


def check_texts(name: str, value: Any, *, several: bool = False) -> None:
    """Check, at parse time, an argument that is a text or ``None``; with ``several`` it may be a list of texts.

    :raises ValueError: for anything else.
    """
    if is_literal(value) and value is not None:
        texts = value if several and isinstance(value, (list, tuple)) else [value]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"`{name}` must be a string{' or a list of strings' * several}, got {value!r:.100}")


def check_outcomes(
    name: str, outcomes: Iterable[str | Outcome], also: tuple[str, ...] = (), of: tuple[str, ...] = ()
) -> frozenset[str]:
    """Check a set of outcomes and return their names.

    :param also: more words that are accepted.
    :param of: those that the task can have, by default all.
    :raises ValueError: naming the known outcomes.
    """
    from airflow_lro_provider.lro.operation import Outcome

    if isinstance(outcomes, str):
        outcomes = {outcomes}
    if not isinstance(outcomes, Iterable):
        raise ValueError(f"`{name}` must be a set of outcomes, got {outcomes!r}")
    known = [*(of or (outcome.value for outcome in Outcome)), *also]
    names = [outcome.value if isinstance(outcome, Outcome) else outcome for outcome in outcomes]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"`{name}` has no outcome {', '.join(map(repr, unknown))}; there are: {', '.join(known)}")
    return frozenset(names)
