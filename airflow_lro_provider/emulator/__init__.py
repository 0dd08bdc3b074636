"""A local server of ``google.longrunning.Operations``, for tests, demos and first steps.

It serves every API of the catalog (``lro/resources/services.json``) on one loopback port, each below its
own name, with a real state machine, each system's own metadata, and scripted behaviour: how long an
operation takes, how it ends, how it reacts to a cancel request, which requests fail and how.

::

    from airflow_lro_provider.emulator import Emulator

    with Emulator() as emulator:
        name = emulator.create("datafusion", duration=60, cancel_delay=2)
        ...  # a task that waits is killed
        assert emulator.operation("datafusion", name).cancel_requests == 1

=================  ====================================================================
``script``         how an operation behaves and which requests fail     standard library
``state``          the state machine of one operation                   standard library
``metadata``       one function per shape of metadata                   standard library
``failures``       the scripted failures that are pending               standard library
``journal``        the requests that were received                      standard library
``store``          all of these together, behind one lock               standard library
``routes``         which API and verb a method and a raw path mean      standard library
``responses``      errors as Google writes them                         standard library
``connection``     the Airflow connection to an emulator                standard library
``app``            the surface of Google                                Starlette
``control``        ``/emulator/…``: inspecting and scripting            Starlette
``page``           the page for people                                  standard library
``server``         the server itself                                    uvicorn
``pytest_plugin``  the fixture ``lro_emulator``                         pytest
=================  ====================================================================

Starlette and uvicorn come with Airflow 3.3; they are imported only when :class:`Emulator` or
:func:`create_app` is.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_lro_provider.emulator.app import create_app
    from airflow_lro_provider.emulator.script import Failure, Script
    from airflow_lro_provider.emulator.server import Emulator, serve
    from airflow_lro_provider.emulator.store import Store

__all__ = ["Emulator", "Failure", "Script", "Store", "create_app", "serve"]

_MODULES = {
    "Emulator": "server",
    "Failure": "script",
    "Script": "script",
    "Store": "store",
    "create_app": "app",
    "serve": "server",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
