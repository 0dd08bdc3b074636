"""The page for people: operations and the latest requests, in one piece of HTML. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from html import escape

from airflow_lro_provider.emulator.journal import RequestRecord
from airflow_lro_provider.emulator.state import OperationView
from airflow_lro_provider.lro.operation import Operation

__all__ = ["REFRESH_SECONDS", "render"]

REFRESH_SECONDS = 2
"""Seconds between two reloads."""
ROWS = 50
"""The number of rows of a table."""
NEWEST = 10_000
"""The number of requests that are shown: most are polls, and the same."""
_STYLE = """
:root{color-scheme:light dark;font:14px/1.5 system-ui,sans-serif}
body{max-width:80rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.3rem;margin:0}h2{font-size:1rem;margin:1.5rem 0 .3rem}p{margin:.2rem 0;opacity:.7}
table{border-collapse:collapse;width:100%}
th,td{white-space:nowrap;text-align:left;padding:.25rem .6rem;border-bottom:1px solid #8884;vertical-align:top}
th{font-weight:500;opacity:.6}td{font-variant-numeric:tabular-nums}code{white-space:normal;font-size:.85rem;overflow-wrap:anywhere}
b{font-weight:500;border-radius:.6rem;padding:.05rem .5rem;background:#8883}
.SUCCEEDED,.ok{background:#2a94}.FAILED,.bad{background:#d445}.CANCELLED,.CANCELLING{background:#d925}.RUNNING{background:#48d5}
progress{width:6rem;vertical-align:middle}
""".strip()


def render(operations: Sequence[OperationView], requests: Sequence[RequestRecord], now: float) -> str:
    """Render the page.

    :param operations: all of them, oldest first.
    :param requests: the latest, oldest first.
    :param now: the time, in seconds since the epoch.
    """
    running = sum(not operation.done for operation in operations)
    newest = operations[: -ROWS - 1 : -1]
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">'
        f"<title>{running} running · Operations emulator</title><style>{_STYLE}</style></head><body>"
        "<h1>google.longrunning.Operations, emulated</h1>"
        f"<p>{len(operations)} operations, {running} running. As JSON: "
        '<a href="/emulator/operations">operations</a>, <a href="/emulator/requests">requests</a>.</p>'
        f"<h2>Operations</h2>{_table(_OPERATION_HEADS, [_operation(operation, now) for operation in newest])}"
        f"<h2>Requests</h2>{_table(_REQUEST_HEADS, _rows_of(requests))}"
        "</body></html>"
    )


_OPERATION_HEADS = ("State", "API", "Operation", "Started", "Took", "Cancel requests")
_REQUEST_HEADS = ("#", "Time", "Times", "Verb", "Response", "Request", "Token")


def _operation(view: OperationView, now: float) -> tuple[str, ...]:
    progress = Operation.from_json(view.operation).progress
    bar = f' <progress value="{progress:.2f}"></progress>' if progress is not None and not view.done else ""
    cancels = str(view.cancel_requests or "")
    if view.cancel_requested_at is not None:
        cancels += f" (first after {view.cancel_requested_at - view.created_at:.1f} s)"
    return (
        f'<b class="{view.state}">{view.state}</b>{bar}',
        escape(view.service),
        f"<code>{escape(view.name)}</code>",
        _clock(view.created_at),
        f"{(now if view.done_at is None else view.done_at) - view.created_at:.1f} s",
        cancels,
    )


def _rows_of(requests: Sequence[RequestRecord]) -> list[tuple[str, ...]]:
    """The latest first. Polls that are the same have one row."""
    same: dict[tuple[object, ...], list[RequestRecord]] = {}
    for one in reversed(requests[-NEWEST:]):
        is_poll = one.verb in ("get", "list", "wait")
        key = (one.path, one.query, one.status, one.failure, one.authorization) if is_poll else (one.order,)
        same.setdefault(key, []).append(one)
    return [_request(records[0], len(records)) for records in same.values()][:ROWS]


def _request(record: RequestRecord, times: int) -> tuple[str, ...]:
    path = f"{record.path}?{record.query}" if record.query else record.path
    status = "no response" if record.status is None else str(record.status)
    good = record.status is not None and record.status < 400
    scripted = " scripted" if record.failure else ""
    return (
        str(record.order),
        _clock(record.time),
        str(times) if times > 1 else "",
        escape(record.verb or "?"),
        f'<b class="{"ok" if good else "bad"}">{status}</b>{scripted}',
        f"<code>{escape(record.method)} {escape(path)}</code>",
        "yes" if record.authorization else "no",
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "<p>None so far.</p>"
    head = "".join(f"<th>{text}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%H:%M:%S.%f")[:-3]
