"""Operations from a shell: ``airflow-lro services``, ``get``, ``wait``, ``cancel`` and ``list``.

They need no Airflow, only Google's application default credentials; with ``--gcp-conn-id`` they use an Airflow
connection instead.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import math
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.cli import completion
from airflow_lro_provider.cli.output import RUNNING, WRONG, fail, is_terminal, print_json, print_list, show
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.cancel import cancel_line
from airflow_lro_provider.lro.errors import OperationsError
from airflow_lro_provider.lro.operation import Outcome
from airflow_lro_provider.lro.resources.catalog import Service, find_service, known_services
from airflow_lro_provider.lro.resources.names import OperationReference, read_parent, read_reference

if TYPE_CHECKING:
    from airflow_lro_provider.lro.client import OperationsClient

_Act = Callable[["OperationsClient", OperationReference, argparse.Namespace], int]


def add_commands(commands: Any) -> None:
    """Add these commands to what ``add_subparsers`` gave."""
    text = "Show the Google APIs in the catalog, or one of them in full: hosts, verbs, names, locations, scopes."
    services = commands.add_parser("services", help="show the known Google APIs", description=text)
    name = services.add_argument(
        "name", nargs="?", metavar="NAME", help="the API's discovery name, or one of its hosts"
    )
    completion.complete(name, completion.services)
    add_json(services)
    services.set_defaults(command=_services)

    text = "Show an operation: one line, or with --json the whole resource."
    _of_operation(commands, "get", "show an operation", text, _get)

    text = (
        "Wait until operations have finished: on a terminal with a table that changes, else with a line per change."
        " The exit status is 0 if all have succeeded; 1 if one has failed, was cancelled or cannot be found, or if its"
        " last poll failed; 3 if nothing went wrong, and one is still running at the timeout. Ctrl-C ends the wait; the"
        " operations run on."
    )
    wait = commands.add_parser("wait", help="wait until operations have finished", description=text)
    wait.add_argument("operations", nargs="+", metavar="OPERATION", help="its name, //HOST/NAME or URL")
    _add_service(wait, "wait", of_operation=True)
    _add_common(wait, "the whole resource; of several, one in a line as soon as it has finished")
    _add_wait_options(wait)
    wait.set_defaults(command=_wait)

    text = (
        "Request the cancellation of an operation, and wait for the outcome. The exit status is 0 if it was cancelled"
        " (or had finished before), 3 if it is still running at the timeout, else 1. Ctrl-C ends the wait; what was"
        " requested stays requested."
    )
    result = '{"outcome": …, "operation": {…}}; the outcome REQUESTED is not a cancellation yet'
    cancel = _of_operation(commands, "cancel", "cancel an operation", text, _cancel, result)
    cancel.add_argument("--no-wait", action="store_true", help="only request it")
    _add_wait_options(cancel)

    text = (
        "List the operations below a parent, e.g. projects/p/locations/us-central1. On a terminal a table, in which the"
        " names are without what all of them begin with; else a line for each, with its whole name."
    )
    many = commands.add_parser("list", help="list operations", description=text)
    many.add_argument("parent", metavar="PARENT", help="the resource below which they are")
    _add_service(many, "list", of_operation=False)
    many.add_argument("--filter", metavar="TEXT", help="in the service's own dialect, e.g. done:false")
    many.add_argument("--limit", type=int, default=100, metavar="N", help="show at most N (default: %(default)s)")
    many.add_argument("--full-names", action="store_true", help="whole names in the table, too")
    _add_common(many, "the whole resources, one in each line")
    many.set_defaults(command=_list)


def _of_operation(
    commands: Any, name: str, help: str, text: str, act: _Act, result: str = "the whole resource"
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help, description=text)
    parser.add_argument("operation", metavar="OPERATION", help="its name, //HOST/NAME or URL")
    _add_service(parser, name, of_operation=True)
    _add_common(parser, result)
    parser.set_defaults(command=functools.partial(_with_operation, act))
    return parser


def _add_service(parser: argparse.ArgumentParser, verb: str, *, of_operation: bool) -> None:
    text = "the API, if the name has no host" if of_operation else "the API's discovery name or host"
    service = parser.add_argument("--service", required=not of_operation, metavar="NAME", help=text)
    # Every API can be waited for: where it has no verb of its own for that, by polls.
    completion.complete(service, functools.partial(completion.services, verb="get" if verb == "wait" else verb))


def add_json(parser: argparse.ArgumentParser, what: str = "one document") -> None:
    """Add the option that every command has."""
    parser.add_argument("--json", action="store_true", help=f"print JSON: {what}")


def add_connection(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the option that names an Airflow connection."""
    text = f"the Airflow connection (default: {default})" if default else "use this Airflow connection (needs Airflow)"
    conn_id = parser.add_argument("--gcp-conn-id", metavar="ID", default=default, help=text)
    completion.complete(conn_id, completion.connections)
    parser.add_argument(
        "--impersonation-chain", metavar="ACCOUNTS", help="act as this account; separate several with commas"
    )


def _add_common(parser: argparse.ArgumentParser, result: str) -> None:
    version = parser.add_argument("--api-version", metavar="VERSION", help="the API version, if not the preferred one")
    completion.complete(version, completion.versions)
    add_json(parser, result)
    add_connection(parser)
    parser.add_argument(
        "--emulator", type=_root_url, metavar="URL", help="use the local server there, without credentials"
    )


def _add_wait_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="wait no longer (default: for ever)")
    parser.add_argument(
        "--poll-interval", type=seconds, metavar="SECONDS", help="time between two polls (default: 1 to 60)"
    )


# -- the commands -----------------------------------------------------------------------------------------------------


def _services(given: argparse.Namespace) -> int:
    if given.name is not None:
        service = find_service(given.name)
        if given.json:
            print_json({**_in_brief(service), "names": dict(service.names), "locations": list(service.locations)})
        else:
            print("\n".join(_about(service)))
    elif given.json:
        print_json([_in_brief(service) for service in known_services().values()])
    else:
        for service in known_services().values():
            print(f"{service.name:<26} {service.title:<48} {' '.join(service.verbs)}")
    return 0


def _in_brief(service: Service) -> dict[str, Any]:
    return {
        "name": service.name,
        "title": service.title,
        "host": service.host,
        "versions": list(service.versions),
        "verbs": list(service.verbs),
        "scopes": list(service.scopes),
        "filter_required": service.filter_required,
    }


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
    show(client.get(reference), given.json)
    return 0


def _wait(given: argparse.Namespace) -> int:
    from airflow_lro_provider.cli.waits import status_of, wait_for_all

    settings = _settings(given)
    # All names are checked before anything is sent. What is named twice is one operation.
    references = list(dict.fromkeys(_reference(name, settings, given) for name in given.operations))
    results = wait_for_all(settings, references, given)
    statuses = {status_of(result) for result in results}
    return WRONG if WRONG in statuses else RUNNING if RUNNING in statuses else 0


def _cancel(client: OperationsClient, reference: OperationReference, given: argparse.Namespace) -> int:
    from airflow_lro_provider.cli.waits import status_of, wait_for_all

    try:
        result = client.cancel(reference)
    except KeyboardInterrupt:
        fail(f"interrupted; the cancellation was perhaps requested. `airflow-lro get` shows what became of {reference}")
        raise
    print(f"airflow-lro: {cancel_line(reference, result)}", file=sys.stderr)
    operation, word, status = result.operation, result.word, 0
    if result.outcome is not None:
        status = 0 if result.outcome in (Outcome.CANCELLED, Outcome.SUCCEEDED, Outcome.FAILED) else WRONG
    elif not given.no_wait:
        [later] = wait_for_all(client.settings, [reference], given, say=False)
        if isinstance(later, OperationsError):
            if (status := status_of(later)) != RUNNING:
                return status
            word = Outcome.STILL_RUNNING.value
        else:
            outcome = result.outcome_of(later)
            operation, word, status = later, outcome.value, 0 if outcome is Outcome.CANCELLED else WRONG
            print(f"airflow-lro: {word}: {reference.short}", file=sys.stderr)
    if given.json:
        print_json({"outcome": word, "operation": None if operation is None else operation.raw})
    elif operation is not None and (operation.done or result.outcome is not None):
        show(operation, False)
    return status


def _list(given: argparse.Namespace) -> int:
    from airflow_lro_provider.lro.client import OperationsClient

    settings = _settings(given)
    parent = read_parent(given.parent, given.service, given.api_version, **_naming(settings))
    with OperationsClient(settings) as client:
        listed = client.list(parent, filter=given.filter, include_response=given.json)
        shown = itertools.islice(listed, max(given.limit, 0))
        if given.json or not is_terminal(sys.stdout):
            for operation in shown:
                show(operation, given.json, operation.name)
            return 0
        if not (operations := list(shown)):
            print("airflow-lro: there are none.", file=sys.stderr)
            return 0
        more = next(listed, None) is not None
    print_list(operations, full_names=given.full_names)
    if more:
        print(f"airflow-lro: these are the first {given.limit}; --limit shows more.", file=sys.stderr)
    return 0


# -- what they share --------------------------------------------------------------------------------------------------


def _with_operation(act: _Act, given: argparse.Namespace) -> int:
    from airflow_lro_provider.lro.client import OperationsClient

    settings = _settings(given)
    reference = _reference(given.operation, settings, given)
    with OperationsClient(settings) as client:
        return act(client, reference, given)


def _reference(name: str, settings: ConnectionSettings, given: argparse.Namespace) -> OperationReference:
    """Read and check a name; a foreign host is refused before a token is requested."""
    where: dict[str, Any] = {"api_endpoint": settings.api_endpoint, **_naming(settings)}
    reference = read_reference(name, given.service, given.api_version, **where)
    settings.endpoint(reference)
    return reference


def _naming(settings: ConnectionSettings) -> dict[str, Any]:
    from airflow_lro_provider.lro.auth.credentials import naming_of

    return naming_of(settings)


def _settings(given: argparse.Namespace) -> ConnectionSettings:
    """Whose credentials are used, and where requests go."""
    if given.emulator:
        from airflow_lro_provider.emulator.connection import connection_extra

        return ConnectionSettings.from_extra(connection_extra(given.emulator))
    if given.gcp_conn_id:
        from airflow_lro_provider.airflow_compat.outside import database_is_read
        from airflow_lro_provider.hooks.operations import OperationsHook

        with database_is_read(), contextlib.redirect_stdout(sys.stderr):  # where Airflow may log
            return OperationsHook(gcp_conn_id=given.gcp_conn_id, impersonation_chain=given.impersonation_chain).settings
    return ConnectionSettings.from_extra({}, impersonation_chain=given.impersonation_chain)


def _root_url(text: str) -> str:
    """Read the URL of a local server for argparse."""
    url = text.rstrip("/")
    if not re.fullmatch(r"https?://[^/\s]+", url):
        raise argparse.ArgumentTypeError(f"{text!r} is not the URL of a server, such as http://127.0.0.1:8900")
    return url


def seconds(text: str) -> float:
    """Read a number of seconds for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number
