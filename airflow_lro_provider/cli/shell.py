"""Operations from a shell: ``airflow-lro services``, ``get``, ``wait``, ``cancel`` and ``list``.

They need no Airflow, only Google's application default credentials; with ``--gcp-conn-id`` they use an Airflow
connection instead.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.cli.progress_bar import ProgressBar
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.cancel import cancel_line
from airflow_lro_provider.lro.errors import WaitTimeoutError
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.polling import new_schedule
from airflow_lro_provider.lro.redaction import legible
from airflow_lro_provider.lro.resources.catalog import Service, find_service, known_services
from airflow_lro_provider.lro.resources.names import OperationReference, read_parent, read_reference

if TYPE_CHECKING:
    from airflow_lro_provider.lro.client import OperationsClient

RUNNING, WRONG = 3, 1
"""Exit statuses besides 0: it is still running; it failed, was cancelled, or could not be reached."""

_Act = Callable[["OperationsClient", OperationReference, argparse.Namespace], int]


def add_commands(commands: Any) -> None:
    """Add these commands to what ``add_subparsers`` gave."""
    text = "Show the Google APIs in the catalog, or one of them in full: hosts, verbs, names, locations, scopes."
    services = commands.add_parser("services", help="show the known Google APIs", description=text)
    services.add_argument("name", nargs="?", metavar="NAME", help="the API's discovery name, or one of its hosts")
    services.set_defaults(command=_services)

    text = "Show an operation: one line, or with --json the whole resource."
    _of_operation(commands, "get", "show an operation", text, _get)

    text = (
        "Wait until an operation has finished. The exit status is 0 if it succeeded, 3 if it is still running at the"
        " timeout, else 1 (also if the last poll failed). Ctrl-C ends the wait; the operation runs on."
    )
    _add_wait_options(_of_operation(commands, "wait", "wait until an operation has finished", text, _wait))

    text = (
        "Request the cancellation of an operation, and wait for the outcome. The exit status is 0 if it was cancelled"
        " (or had finished before), 3 if it is still running at the timeout, else 1."
    )
    cancel = _of_operation(commands, "cancel", "cancel an operation", text, _cancel)
    cancel.add_argument("--no-wait", action="store_true", help="only request it")
    _add_wait_options(cancel)

    text = "List the operations below a parent, e.g. projects/p/locations/us-central1."
    many = commands.add_parser("list", help="list operations", description=text)
    many.add_argument("parent", metavar="PARENT", help="the resource below which they are")
    many.add_argument("--service", required=True, metavar="NAME", help="the API's discovery name or host")
    many.add_argument("--filter", metavar="TEXT", help="in the service's own dialect, e.g. done:false")
    many.add_argument("--limit", type=int, default=100, metavar="N", help="show at most N (default: %(default)s)")
    _add_common(many)
    many.set_defaults(command=_list)


def _of_operation(commands: Any, name: str, help: str, text: str, act: _Act) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help, description=text)
    parser.add_argument("operation", metavar="OPERATION", help="its name, //HOST/NAME or URL")
    parser.add_argument("--service", metavar="NAME", help="the API, if the name has no host")
    _add_common(parser)
    parser.set_defaults(command=functools.partial(_with_operation, act))
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--api-version", metavar="VERSION", help="the API version, if not the preferred one")
    parser.add_argument("--json", action="store_true", help="print the whole resource")
    parser.add_argument("--gcp-conn-id", metavar="ID", help="use this Airflow connection (needs Airflow)")
    parser.add_argument(
        "--impersonation-chain", metavar="ACCOUNTS", help="act as this account; separate several with commas"
    )
    parser.add_argument("--emulator", metavar="URL", help="use the local server there, without credentials")


def _add_wait_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="wait no longer (default: for ever)")
    parser.add_argument(
        "--poll-interval", type=seconds, metavar="SECONDS", help="time between two polls (default: 1 to 60)"
    )


# -- the commands -----------------------------------------------------------------------------------------------------


def _services(given: argparse.Namespace) -> int:
    if given.name is not None:
        print("\n".join(_about(find_service(given.name))))
        return 0
    for service in known_services().values():
        print(f"{service.name:<26} {service.title:<48} {' '.join(service.verbs)}")
    return 0


def _about(service: Service) -> Iterator[str]:
    """What the catalog knows of an API, line by line."""
    yield f"{service.name}: {service.title}"
    yield f"  host       {service.host}"
    if service.locations:
        yield f"  regional   {len(service.locations)}: {', '.join(service.locations)}"
    yield f"  versions   {', '.join(service.versions)} (the first is the default)"
    yield f"  scopes     {', '.join(service.scopes)} (any of them)"
    for version in service.versions:
        yield f"  {version}"
        for verb in service.verbs:
            patterns = service.served(verb, version)
            if patterns:
                shown = sorted(patterns, key=len)
                more = f", and {len(shown) - 3} more" if len(shown) > 3 else ""
                yield f"    {verb:<8} {', '.join(shown[:3])}{more}"
    if service.filter_required:
        yield "  list needs a filter"


def _get(client: OperationsClient, reference: OperationReference, given: argparse.Namespace) -> int:
    _show(client.get(reference), given.json)
    return 0


def _wait(client: OperationsClient, reference: OperationReference, given: argparse.Namespace) -> int:
    operation = _wait_for(client, reference, given)
    if isinstance(operation, int):
        return operation
    if operation.hidden_failure is not None:
        return fail(f"it reports no error, but {operation.hidden_failure}.")
    return 0 if operation.outcome is Outcome.SUCCEEDED else WRONG


def _wait_for(client: OperationsClient, reference: OperationReference, given: argparse.Namespace) -> Operation | int:
    """Wait for an operation, and show it; at the timeout, the exit status."""
    schedule = new_schedule(time.monotonic(), timeout=given.timeout, interval=given.poll_interval)
    try:
        with ProgressBar() as bar:
            operation = client.wait_until_done(reference, schedule, on_poll=bar.show, on_change=bar.log)
    except WaitTimeoutError as error:
        fail(str(error))
        return RUNNING if error.last_error is None else WRONG
    _show(operation, given.json)
    return operation


def _cancel(client: OperationsClient, reference: OperationReference, given: argparse.Namespace) -> int:
    result = client.cancel(reference)
    print(f"airflow-lro: {cancel_line(reference, result)}", file=sys.stderr)
    if result.outcome is not None:
        if result.operation is not None:
            _show(result.operation, given.json)
        return 0 if result.outcome in (Outcome.CANCELLED, Outcome.SUCCEEDED, Outcome.FAILED) else WRONG
    if given.no_wait:
        return 0
    operation = _wait_for(client, reference, given)
    if isinstance(operation, int):
        return operation
    outcome = result.outcome_of(operation)
    print(f"airflow-lro: {outcome.value}: {reference.short}", file=sys.stderr)
    return 0 if outcome is Outcome.CANCELLED else WRONG


def _list(given: argparse.Namespace) -> int:
    from airflow_lro_provider.lro.client import OperationsClient

    settings = _settings(given)
    parent = read_parent(given.parent, given.service, given.api_version, **_naming(settings))
    with OperationsClient(settings) as client:
        listed = client.list(parent, filter=given.filter, include_response=given.json)
        for operation in itertools.islice(listed, given.limit):
            _show(operation, given.json, named=True)
    return 0


# -- what they share --------------------------------------------------------------------------------------------------


def _with_operation(act: _Act, given: argparse.Namespace) -> int:
    from airflow_lro_provider.lro.client import OperationsClient

    settings = _settings(given)
    where: dict[str, Any] = {"api_endpoint": settings.api_endpoint, **_naming(settings)}
    reference = read_reference(given.operation, given.service, given.api_version, **where)
    settings.endpoint(reference)  # a foreign host is refused before a token is requested
    with OperationsClient(settings) as client:
        return act(client, reference, given)


def _naming(settings: ConnectionSettings) -> dict[str, Any]:
    from airflow_lro_provider.lro.auth.credentials import naming_of

    return naming_of(settings)


def _settings(given: argparse.Namespace) -> ConnectionSettings:
    """Whose credentials are used, and where requests go."""
    if given.emulator:
        from airflow_lro_provider.emulator.connection import connection_extra

        return ConnectionSettings.from_extra(connection_extra(given.emulator.rstrip("/")))
    if given.gcp_conn_id:
        from airflow_lro_provider.airflow_compat.secrets import database_is_read
        from airflow_lro_provider.hooks.operations import OperationsHook

        with database_is_read(), contextlib.redirect_stdout(sys.stderr):  # where Airflow may log
            return OperationsHook(gcp_conn_id=given.gcp_conn_id, impersonation_chain=given.impersonation_chain).settings
    return ConnectionSettings.from_extra({}, impersonation_chain=given.impersonation_chain)


def _show(operation: Operation, as_json: bool, *, named: bool = False) -> None:
    if as_json:
        print(json.dumps(operation.raw, indent=None if named else 2))
    else:
        failed = operation.outcome is Outcome.FAILED and not named  # of many, one short line each
        line = f"FAILED · {operation.failure}" if failed else operation.summary()
        if operation.partial_failures:
            line += f" · in part only: {operation.partial_failures}"
        print(f"{legible(operation.name)}  {line}" if named else line)


def seconds(text: str) -> float:
    """Read a number of seconds for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number


# What errors call the arguments of Python functions, where the shell has a flag for them.
_FLAG = re.compile(r"`(service|api_version|filter)`|\b(service|api_version|filter)=…|(?<=\()(poll_interval)(?=\))")


def fail(message: str) -> int:
    """Print what is wrong to standard error; returns the exit status."""
    message = _FLAG.sub(lambda found: "--" + next(filter(None, found.groups())).replace("_", "-"), message)
    print(f"airflow-lro: {message}", file=sys.stderr, flush=True)
    return WRONG
