"""The face of the core: what it offers, what that costs, and whether its example works."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from airflow_lro_provider import lro
from airflow_lro_provider.emulator import Emulator


def test_importing_it_imports_no_client_library() -> None:
    """Nor anything else but itself: names are loaded on first use."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "import airflow_lro_provider.lro\n"
        "print(*sorted({name for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = {name for name in done.stdout.split() if name.split(".")[0] not in sys.stdlib_module_names}
    assert foreign == {"airflow_lro_provider", "airflow_lro_provider.lro"}


def test_every_name_can_be_loaded() -> None:
    """Each comes from the module that defines it, and is listed."""
    for name in lro.__all__:
        found = getattr(lro, name)
        assert found.__name__ == name
        assert found.__module__ == f"airflow_lro_provider.lro.{lro._MODULES[name]}"
    assert set(lro.__all__) == set(lro._MODULES) <= set(dir(lro))
    with pytest.raises(AttributeError, match="has no attribute 'Client'"):
        _ = lro.Client


def test_the_example_works(lro_emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands in the docstring, but against the local server."""
    name = lro_emulator.create("datafusion", "projects/p/locations/us-central1/operations/o", duration=None)
    assert lro.__doc__ is not None
    example = textwrap.dedent(lro.__doc__.split("::\n\n", 1)[1].split("\n\n:class:", 1)[0])
    assert name in example
    exec(example.replace("from_extra({})", f"from_extra({lro_emulator.connection_extra()!r})"), {})
    assert capsys.readouterr().out.splitlines() == ["Cancellation requested; the service accepted it", "CANCELLED"]
