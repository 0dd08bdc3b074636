"""``airflow-lro doctor``: checks a deployment one thing after the other, and says what to do.

Every check is a function that yields findings. What cannot be known from where it runs is a warning that says so, and
what it would take; it is never taken for good. No finding has a secret: of a connection there are the names of its
fields and the account, of an error that is not ours its type.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import contextlib
import logging
import platform
import re
import shutil
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from importlib import metadata
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import conf

from airflow_lro_provider import __version__
from airflow_lro_provider.airflow_compat import IS_SUPPORTED, TASKS_LIST_VARIABLES
from airflow_lro_provider.airflow_compat.outside import database_is_read
from airflow_lro_provider.cli.deployment import CannotTellError, Deployment, FromApi, FromDatabase, database_is_there
from airflow_lro_provider.cli.output import duration, is_terminal, print_json, print_line
from airflow_lro_provider.hooks.operations import OperationsHook, missing_scopes
from airflow_lro_provider.lro.errors import OperationsError
from airflow_lro_provider.sweep.ledger import ledger_is_on

if TYPE_CHECKING:
    from airflow_lro_provider.lro.auth.settings import ConnectionSettings

OK, WARNING, PROBLEM = "ok", "warning", "problem"
CLOCK_WARNING_SECONDS, CLOCK_PROBLEM_SECONDS = 5.0, 60.0
"""How far two clocks may be apart: Google refuses an assertion that is minutes off, Airflow 3 a token of 10 s."""
SWEEP_OVERDUE_SECONDS = 3600.0
"""A sweep that has not run for so long is not running: it is meant for every few minutes."""
HEARTBEAT_SECONDS = 15.0
"""A kill that takes longer to be heard of is worth a word."""
SHORTEST_CLEANUP_SECONDS = 10.0
_DOCS = "docs/deployment.md"
_ELSEWHERE = "Run this where the scheduler runs, or give --url to ask Airflow's API (Airflow 3)."


@dataclass(frozen=True)
class Finding:
    """What a check has found.

    :param check: what was looked at.
    :param mark: ok, warning or problem.
    :param advice: what to do; empty if nothing is to be done.
    """

    check: str
    mark: str
    found: str
    advice: str = ""


def examine(given: argparse.Namespace, token: str | None) -> int:
    """Check everything, print what is found, and return the exit status.

    :param given: the arguments of the command.
    :param token: of Airflow's API, if that is to be asked.
    """
    deployment = FromDatabase() if token is None else FromApi(given.url, token)
    doctor, found = _Doctor(given, deployment), []
    for check in (doctor.versions, doctor.connection, doctor.clocks, doctor.ledger, doctor.triggerer, doctor.settings):
        for finding in _findings_of(check):
            found.append(finding)
            if not given.json:
                _print(finding)
    problems, doubts = (sum(one.mark == mark for one in found) for mark in (PROBLEM, WARNING))
    if given.json:
        print_json({"problems": problems, "warnings": doubts, "checks": [asdict(finding) for finding in found]})
    else:
        print(f"\n{_number(problems, 'problem').capitalize()}, {_number(doubts, 'warning')}.")
    return 1 if problems else 0


def _number(number: int, noun: str, plural: str = "") -> str:
    return f"{number or 'no'} {noun if number == 1 else plural or f'{noun}s'}"


def _findings_of(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """The findings of a check; whatever goes wrong in it is one, too."""
    try:
        # A database that is not there would be made: it is SQLite's by default.
        reading = database_is_read() if database_is_there() else contextlib.nullcontext()
        with reading, contextlib.redirect_stdout(sys.stderr), _silence():
            return list(check())
    except Exception as error:  # of Airflow, of any kind: its text may quote a setting
        return [Finding(check.__name__, WARNING, f"cannot be checked here: {type(error).__name__}.")]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Let Airflow neither log nor warn: what matters is a finding."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _print(finding: Finding) -> None:
    indent = " " * 24
    width = min(shutil.get_terminal_size().columns, 120) if is_terminal(sys.stdout) else sys.maxsize
    lines = textwrap.wrap(
        f"{finding.mark:<8} {finding.check:<14} {finding.found}",
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    if finding.advice:
        lines += textwrap.wrap(
            finding.advice,
            width,
            initial_indent=f"{indent}-> ",
            subsequent_indent=f"{indent}   ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    print_line(lines[0], finding.mark)
    for line in lines[1:]:
        print(line)


class _Doctor:
    """The checks, in their order."""

    def __init__(self, given: argparse.Namespace, deployment: Deployment) -> None:
        self._conn_id, self._service = given.gcp_conn_id, given.service
        self._deployment = deployment
        self._hook = OperationsHook(
            service=given.service, gcp_conn_id=given.gcp_conn_id, impersonation_chain=given.impersonation_chain
        )
        self._settings: ConnectionSettings | None = None

    def versions(self) -> Iterator[Finding]:
        airflow, python = metadata.version("apache-airflow"), platform.python_version()
        found = f"airflow-lro-provider {__version__} on Airflow {airflow}, Python {python}."
        advice = "Supported are Airflow 2.11, 3.1, 3.2 and 3.3. Use one of them, or a newer release of this package."
        yield Finding("versions", OK if IS_SUPPORTED else PROBLEM, found, "" if IS_SUPPORTED else advice)

    # -- Google -------------------------------------------------------------------------------------------

    def connection(self) -> Iterator[Finding]:
        try:
            settings = self._hook.settings
        except OperationsError as error:
            yield Finding(
                "connection", PROBLEM, str(error), "See docs/connections.md. --gcp-conn-id names another one."
            )
            return
        self._settings = settings
        kind = self._hook.get_connection(self._conn_id).conn_type or "no type"
        set_here = [field.name for field in fields(settings) if getattr(settings, field.name) != field.default]
        given = ", ".join(set_here) or "none: application default credentials"
        yield Finding("connection", OK, f"{self._conn_id} (type {kind}). Fields: {given}.")

        has_token, said = self._hook.test_connection()
        chain = settings.impersonation_chain
        through = f" Impersonation: {' -> '.join(chain)}." if chain else ""
        if not has_token:
            yield Finding("token", PROBLEM, f"{said}{through}", "No task can send a request with this connection.")
            return
        if settings.is_anonymous:
            yield Finding("token", WARNING, said, "Remove `is_anonymous`, unless this is for tests.")
            return
        yield Finding("token", OK, f"{said.partition(' Scopes: ')[0]}{through}")
        lacking = missing_scopes(settings, self._service).strip()
        yield Finding("scopes", WARNING if lacking else OK, f"{', '.join(settings.scopes)}.", lacking)

    def clocks(self) -> Iterator[Finding]:
        from airflow_lro_provider.lro.auth.settings import ConnectionSettings

        yield self._clock_of_google(self._settings or ConnectionSettings.from_extra({}))
        try:
            before, theirs, after = time.time(), self._deployment.clock(), time.time()
        except CannotTellError:
            return  # the next check says so
        if theirs is not None:
            yield _clock("clock: Airflow", "this machine's database", theirs.timestamp() - (before + after) / 2)

    def _clock_of_google(self, settings: ConnectionSettings) -> Finding:
        from airflow_lro_provider.lro.http.messages import CONNECT_TIMEOUT_SECONDS, USER_AGENT
        from airflow_lro_provider.lro.http.session import BoundedSession

        url, session = self._some_url(settings), BoundedSession()
        name = "clock: server" if settings.emulator else "clock: Google"
        try:
            before = time.time()
            headers = {"user-agent": USER_AGENT}
            response = session.fetch("GET", f"{url}/", headers=headers, connect=CONNECT_TIMEOUT_SECONDS, read=10.0)
            after = time.time()
        except OperationsError as error:
            advice = "Allow this machine to reach it: a proxy, a firewall, or `api_endpoint` for a private endpoint."
            return Finding(name, PROBLEM, f"{url} cannot be reached: {error}", advice)
        finally:
            session.close()
        try:
            # The header has whole seconds, which are cut off.
            theirs = parsedate_to_datetime(response.headers["date"]).timestamp() + 0.5
        except (KeyError, TypeError, ValueError):
            return Finding(name, WARNING, f"cannot tell: the response of {url} has no date.")
        return _clock(name, url, theirs - (before + after) / 2)

    def _some_url(self, settings: ConnectionSettings) -> str:
        """Where a request to Google goes that needs no token."""
        from airflow_lro_provider.lro.resources.hosts import host_to_send_to, read_service

        if settings.api_endpoint:
            return settings.api_endpoint.replace("{service}", self._service or "aiplatform")
        universe = settings.universe_domain
        if self._service:
            return f"https://{host_to_send_to(read_service(self._service, universe).host, universe)}"
        return f"https://iamcredentials.{universe}"

    # -- Airflow ------------------------------------------------------------------------------------------

    def ledger(self) -> Iterator[Finding]:
        is_on = ledger_is_on()
        yield Finding(
            "ledger",
            OK if is_on else WARNING,
            "[lro] ledger is on, here."
            if is_on
            else "[lro] ledger is off, here: what a task leaves that Airflow ends without a hook (SIGKILL, …) runs on.",
            "" if is_on else "Set AIRFLOW__LRO__LEDGER=True on all components, and run the sweep every five minutes.",
        )
        try:
            yield self._sweep(is_on)
        except CannotTellError as error:
            yield Finding("sweep", WARNING, f"cannot tell from here when it ran: {error}.", _ELSEWHERE)

    def _sweep(self, is_on: bool) -> Finding:
        """When it ran last, and whether it can run at all where it is."""
        deployment = self._deployment
        entries, last = deployment.entries(), deployment.last_sweep()
        ledger = f"The ledger has {_number(entries, 'entry', 'entries')} ({deployment.name})."
        if not TASKS_LIST_VARIABLES:
            return Finding(
                "sweep",
                WARNING if is_on or entries else OK,
                f"No task of this Airflow may list Variables: it sweeps from outside, which leaves no trace. {ledger}",
                f"Run `airflow-lro sweep --url …` every five minutes; see {_DOCS}." if is_on or entries else "",
            )
        if last is None:
            return Finding(
                "sweep",
                PROBLEM if entries else WARNING if is_on else OK,
                f"No sweep has run in a Dag. {ledger}",
                "Add `dag = sweep_dag()` to a Dag file, unless `airflow-lro sweep` runs outside." if is_on else "",
            )
        ago = (datetime.now(timezone.utc) - last.at).total_seconds()
        found = f"The last one in a Dag ({last.dag_id}): {last.state}, {duration(ago)} ago. {ledger}"
        if last.paused:
            return Finding("sweep", PROBLEM, f"{found} The Dag is paused.", f"airflow dags unpause {last.dag_id}")
        if ago > SWEEP_OVERDUE_SECONDS:
            return Finding("sweep", PROBLEM, f"{found} That is long ago.", "Is its Dag still there, and scheduled?")
        if last.state not in ("success", "running", "deferred"):
            return Finding("sweep", PROBLEM, found, "Read the log of its task.")
        if not is_on:
            return Finding("sweep", WARNING, found, "It finds nothing where the ledger is off.")
        return Finding("sweep", OK, found)

    def triggerer(self) -> Iterator[Finding]:
        by_default = conf.getboolean("operators", "default_deferrable", fallback=False)
        try:
            running = self._deployment.triggerers(datetime.now(timezone.utc))
        except CannotTellError as error:
            yield Finding("triggerer", WARNING, f"cannot tell from here whether one is running: {error}.", _ELSEWHERE)
            return
        if running:
            yield Finding("triggerer", OK, f"{len(running)} running ({'; '.join(running)}).")
            return
        deferred = "all of them, by [operators] default_deferrable" if by_default else "those with deferrable=True"
        yield Finding(
            "triggerer",
            PROBLEM if by_default else WARNING,
            f"None is running: tasks that wait deferred wait for ever ({deferred}).",
            "Start `airflow triggerer`, better two of them, each with this package in this release.",
        )

    def settings(self) -> Iterator[Finding]:
        """The settings that matter, as this process reads them."""
        yield _fernet_key()
        by_default = conf.getboolean("operators", "default_deferrable", fallback=False)
        yield Finding(
            "settings", OK, f"[operators] default_deferrable = {by_default}: what sensors do unless they say otherwise."
        )
        for section, option in (("workers", "min_heartbeat_interval"), ("scheduler", "local_task_job_heartbeat_sec")):
            if (every := conf.getfloat(section, option, fallback=0.0)) > HEARTBEAT_SECONDS:
                found = f"[{section}] {option} = {every:g}: a running task hears of its kill only that late."
                yield Finding("settings", WARNING, found, "Make it 5, unless the load forbids it.")
        cleanup = conf.getfloat("core", "killed_task_cleanup_time", fallback=60.0)
        if cleanup < SHORTEST_CLEANUP_SECONDS:
            found = (
                f"[core] killed_task_cleanup_time = {cleanup:g}: Airflow 2 leaves a killed task no longer to cancel."
            )
            yield Finding("settings", WARNING, found, "Leave it at 60. (Airflow 3 does not read it: 5 s, fixed.)")
        in_flight = str(conf.get("lro", "max_in_flight", fallback="8")).strip()
        if not re.fullmatch("0*[1-9][0-9]{0,2}", in_flight):
            found = f"[lro] max_in_flight = {in_flight:.20} is not a number from 1 to 999: 8 is used."
            yield Finding("settings", WARNING, found, "Correct it, or leave it out.")
        if conf.getboolean("core", "multi_team", fallback=False):
            found = "[core] multi_team is on: a sweep sees the Variables of its own team only."
            yield Finding("settings", WARNING, found, "Every team needs a sweep, and so do the Dags without a team.")


def _clock(name: str, whose: str, seconds: float) -> Finding:
    """What to say of a clock that is so far ahead of this one."""
    apart = abs(seconds)
    if apart <= CLOCK_WARNING_SECONDS:
        return Finding(name, OK, f"This machine's clock is right (within {CLOCK_WARNING_SECONDS:g} s of {whose}).")
    way = "behind" if seconds > 0 else "ahead of"
    mark = PROBLEM if apart > CLOCK_PROBLEM_SECONDS else WARNING
    found = f"This machine's clock is {apart:.0f} s {way} {whose}."
    return Finding(
        name, mark, found, "Set it by NTP (chronyd, systemd-timesyncd): tokens are refused that seem too old."
    )


def _fernet_key() -> Finding:
    """Whether there is a key for what Airflow stores; the key itself is not shown."""
    given = str(conf.get("core", "fernet_key", fallback="") or "")
    # Without a file of settings, Airflow's SDK shows the default as it is written: {FERNET_KEY}.
    keys = [] if given.startswith("{") else [key.strip() for key in given.split(",")]
    name = "fernet key"
    if not any(keys):
        advice = "Set the same [core] fernet_key on all hosts, then `airflow rotate-fernet-key`."
        return Finding(name, WARNING, "[core] fernet_key is empty: connections are stored as they are.", advice)
    try:
        good = all(len(base64.urlsafe_b64decode(key.encode())) == 32 for key in keys)
    except (binascii.Error, ValueError):
        good = False
    if not good:
        advice = "Make one: python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
        return Finding(name, PROBLEM, "[core] fernet_key is not 32 bytes in URL-safe base64.", advice)
    return Finding(name, OK, "[core] fernet_key is set, here. All hosts need the same one.")
