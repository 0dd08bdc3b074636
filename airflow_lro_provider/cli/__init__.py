"""The command line ``airflow-lro``: local server, demo, sweep, doctor; commands for operations are in ``shell.py``."""

from __future__ import annotations

import argparse
import difflib
import errno
import functools
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from airflow_lro_provider import __version__
from airflow_lro_provider.cli import completion
from airflow_lro_provider.cli.output import WRONG, fail, print_json
from airflow_lro_provider.cli.shell import add_commands, add_connection, add_json, seconds
from airflow_lro_provider.lro.errors import OperationsError

INTERRUPTED = 130
_TOKEN, _PASSWORD = "AIRFLOW_API_TOKEN", "AIRFLOW_API_PASSWORD"
_INSTALL = "pip install 'airflow-lro-provider[demo]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default with the arguments of this process; returns the exit status."""
    parser = _parser()
    completion.respond_to_shell(parser)
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        return int(given.command(given))
    except OperationsError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output is gone (`| head`), and Python must not write there when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class _CommandParser(argparse.ArgumentParser):
    """Reads one command's arguments, and refuses those that it does not know itself: with its own usage."""

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        given, unknown = super().parse_known_args(*arguments, **options)
        if unknown:
            flag = unknown[0].partition("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(flag, known, n=1)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{f'; did you mean {near[0]}?' if near else ''}")
        return given, unknown


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="airflow-lro",
        description="Tools of the Airflow provider for Google long-running operations.",
        epilog=completion.HOW_TO,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_CommandParser)

    text = "Serve google.longrunning.Operations of all APIs on this machine, for tests and first steps."
    emulator = commands.add_parser("emulator", help="serve emulated operations", description=text)
    emulator.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    emulator.add_argument(
        "--port", type=_port, default=8900, help="port; 0 takes a free one (default: %(default)s)", metavar="PORT"
    )
    emulator.add_argument(
        "--duration",
        type=seconds,
        metavar="SECONDS",
        help="duration of operations that are started without a script of their own (default: 10)",
    )
    add_json(emulator, "first one line that has the URL and the connection, and nothing else")
    emulator.set_defaults(command=_emulator)

    text = (
        "Start the emulator and a real Airflow in a temporary home, kill tasks of it while they wait for"
        " operations of every API, and show what happened to the operations. Takes about a minute; needs no account"
        " and no network. The exit status is 0 only if every operation ended as it must."
    )
    demo = commands.add_parser("demo", help="kill tasks of a real Airflow, and see what happens", description=text)
    demo.add_argument(
        "--keep", action="store_true", help="keep everything running until Ctrl-C, and print the URL of Airflow's UI"
    )
    demo.add_argument(
        "--database",
        metavar="URL",
        help="an empty PostgreSQL database for this Airflow, as SQLAlchemy names it, e.g."
        " postgresql+psycopg2://user@host/name; Airflow 2 needs one, Airflow 3 takes SQLite without it",
    )
    add_json(demo, "at the end one document that has the rows of the table; all else goes to standard error")
    demo.set_defaults(command=_demo)

    text = (
        "Compare the ledger of guarded operations with what Airflow's API shows of their tasks, and cancel those that"
        " no task owns any more. The same as SweepOperationsOperator, from outside: it needs a user of Airflow's API"
        f" (a token in {_TOKEN}, or --user and a password in {_PASSWORD}) and the connections of the entries as"
        " AIRFLOW_CONN_… variables. The exit status is 0 if no entry is left that is unsure or could not be reached."
    )
    sweep = commands.add_parser("sweep", help="cancel the operations of dead tasks", description=text)
    _add_url(sweep, required=True)
    sweep.add_argument("--dry-run", action="store_true", help="change nothing; print what would be done")
    sweep.add_argument("--explain", metavar="ENTRY", help="change nothing; show what is known of one entry")
    sweep.add_argument(
        "--default-credentials",
        action="store_true",
        help="use Google's application default credentials for connections that are not defined here",
    )
    add_json(sweep, "the counts, what became of each operation, and what a person has to decide")
    sweep.set_defaults(command=_sweep)

    text = (
        "Check this deployment, one thing after the other: versions, the connection and its token, clocks, ledger and"
        " sweep, the triggerer, settings. Each with a mark, with what was found, and with what to do. Run it where the"
        " scheduler runs: it reads Airflow's database. Elsewhere give it --url, and it asks Airflow's API (Airflow 3),"
        f" as a user that has a token in {_TOKEN}, or --user and a password in {_PASSWORD}. It changes nothing, and"
        " prints no secret. The exit status is 1 if there is a problem, else 0."
    )
    doctor = commands.add_parser("doctor", help="check a deployment, and say what to do", description=text)
    add_connection(doctor, default="google_cloud_default")
    service = doctor.add_argument("--service", metavar="NAME", help="check the scopes for this API, and reach its host")
    completion.complete(service, completion.services)
    _add_url(doctor, required=False)
    add_json(doctor, '{"problems": N, "warnings": N, "checks": [{"check", "mark", "found", "advice"}, …]}')
    doctor.set_defaults(command=_doctor)

    add_commands(commands)
    parser.set_defaults(command=None)
    return parser


def _add_url(parser: argparse.ArgumentParser, *, required: bool) -> None:
    text = "URL of Airflow's web interface, e.g. https://airflow.example.com"
    parser.add_argument("--url", required=required, type=_url, help=text)
    parser.add_argument("--user", help="user of Airflow's API; without one, a token is needed")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _url(text: str) -> str:
    url = urlsplit(text)
    if (
        url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc
    ):  # not quoted: it may have a password
        raise argparse.ArgumentTypeError("give the whole URL, with https:// (or http://), and without a user")
    return text


def _missing(*packages: str) -> str | None:
    """A message about what is not installed; ``None`` if everything is."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if not missing:
        return None
    return f"{' and '.join(missing)} cannot be imported by {sys.executable}; install it with: {_INSTALL}"


def _emulator(given: argparse.Namespace) -> int:
    if missing := _missing("starlette", "uvicorn"):
        return fail(missing)
    from airflow_lro_provider.emulator import Store, serve

    store = Store()
    if given.duration is not None:
        store.set_script({"duration": given.duration})
    try:
        serve(given.host, given.port, store=store, echo=functools.partial(print, flush=True), as_json=given.json)
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return fail(f"port {given.port} is in use; choose another one with --port (0 takes a free one).")
        return fail(f"cannot listen on {given.host}, port {given.port}: {error.strerror or error}.")
    return 0


def _demo(given: argparse.Namespace) -> int:
    if os.name != "posix":
        return fail("the demo needs Linux or macOS, as Airflow does; on Windows, use WSL.")
    if missing := _missing("airflow", "starlette", "uvicorn"):
        return fail(missing)
    # Airflow reads, or makes, a home as soon as it is imported: this one's, and not the user's own.
    home = tempfile.TemporaryDirectory(prefix="airflow-lro-")
    os.environ["AIRFLOW_HOME"] = home.name
    from airflow_lro_provider.demo.local_airflow import LocalAirflowError
    from airflow_lro_provider.demo.story import run_demo

    try:
        with home:
            return run_demo(keep=given.keep, as_json=given.json, database=given.database)
    except LocalAirflowError as error:
        return fail(f"{error}\nEverything that the demo has started is stopped and removed.")
    except KeyboardInterrupt:
        fail("interrupted; everything is stopped and removed.")
        return INTERRUPTED


def _sweep(given: argparse.Namespace) -> int:
    if missing := _missing("airflow"):
        return fail(missing)
    from airflow_lro_provider.sweep.reconciler import explain, sweep
    from airflow_lro_provider.sweep.records import remove_orphaned_records
    from airflow_lro_provider.sweep.rest_api import AirflowApiError, FromOutside

    try:
        token = _token(given)
        if token is None:
            return WRONG
        airflow = FromOutside(given.url, token, default_credentials=given.default_credentials)
        if given.explain:
            lines = explain(airflow, given.explain, now=time.time())
            if given.json:
                print_json({"entry": given.explain, "lines": lines})
            else:
                print("\n".join(lines))
            return 0
        result = sweep(airflow, now=time.time(), dry_run=given.dry_run, log=lambda *_: None)
        if not given.dry_run:
            remove_orphaned_records(airflow)
    except AirflowApiError as error:
        return fail(str(error))
    status = WRONG if result.counts["unsure"] else 0
    if given.json:
        print_json(result.to_dict())
        return status
    for row in (row.to_dict() for row in result.rows):
        print(f"{row['what']:<12}  {row['operation']}\n              {row['task']}: {row['why']}")
    for one in result.to_dict()["undecided"]:
        print(f"undecided: {one['entry']}: {one['why']} (see --explain)")
    print(result.summary())
    return status


def _token(given: argparse.Namespace) -> str | None:
    """A token of Airflow's API; ``None`` if nobody has said who asks, which is printed."""
    from airflow_lro_provider.sweep.rest_api import log_in

    if given.user:
        if _PASSWORD in os.environ:
            return log_in(given.url.rstrip("/"), given.user, os.environ[_PASSWORD])
        fail(f"--user needs a password in {_PASSWORD}")
    elif _TOKEN in os.environ:
        return os.environ[_TOKEN]
    else:
        fail(f"no credentials for Airflow's API: set {_TOKEN}, or give --user and {_PASSWORD}")
    return None


def _doctor(given: argparse.Namespace) -> int:
    if missing := _missing("airflow"):
        return fail(missing)
    from airflow_lro_provider.cli.doctor import examine
    from airflow_lro_provider.sweep.rest_api import AirflowApiError

    try:
        token = _token(given) if given.url else None
    except AirflowApiError as error:
        return fail(str(error))
    if given.url and token is None:
        return WRONG
    return examine(given, token)
