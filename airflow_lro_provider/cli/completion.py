"""Completion for shells, by argcomplete, which is imported only when a shell requests them.

Commands and options are completed by themselves; what else an argument may be says :func:`complete`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any

HOW_TO = """\
To have it completed by your shell (commands, options, APIs, connections), add a line to its startup file:
  bash  ~/.bashrc                    eval "$(register-python-argcomplete airflow-lro)"
  zsh   ~/.zshrc, after compinit     eval "$(register-python-argcomplete airflow-lro)"
  fish  ~/.config/fish/config.fish   register-python-argcomplete --shell fish airflow-lro | source
"""


def complete(action: argparse.Action, choices: Callable[..., Iterable[str]]) -> None:
    """Say what an argument may be; ``choices`` gets the arguments before it."""
    vars(action)["completer"] = choices


def respond_to_shell(parser: argparse.ArgumentParser) -> None:
    """If a shell requests completions, print them and end the process."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete

    # What is not known is no name of a file either.
    nothing: Any = lambda **_: ()  # noqa: E731 # that of argcomplete is no default in its oldest version
    argcomplete.autocomplete(parser, default_completer=nothing)


def services(verb: str | None = None, **_: Any) -> list[str]:
    """The names of all APIs, or of those that offer a verb."""
    from airflow_lro_provider.lro.resources.catalog import known_services

    return [name for name, service in known_services().items() if verb is None or verb in service.verbs]


def versions(parsed_args: argparse.Namespace, **_: Any) -> tuple[str, ...]:
    """The versions of the API that is named before."""
    from airflow_lro_provider.lro.resources.catalog import known_services

    service = known_services().get(getattr(parsed_args, "service", None) or "")
    return () if service is None else service.versions


def connections(**_: Any) -> list[str]:
    """The connections that are environment variables here."""
    prefix = "AIRFLOW_CONN_"
    return [name.removeprefix(prefix).lower() for name in os.environ if name.startswith(prefix)]
