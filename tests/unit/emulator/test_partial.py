"""Field masks, as Google's REST APIs read them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_lro_provider.emulator.partial import check_mask, partial
from airflow_lro_provider.emulator.responses import RefusedError

OPERATION = {"name": "o", "metadata": {"@type": "m", "a": 1, "b": 2}, "done": True, "response": {"large": "x"}}
PAGE = {"operations": [OPERATION, {"name": "p"}], "nextPageToken": "t"}


@pytest.mark.parametrize(
    ("mask", "left"),
    [
        ("name", {"name": "o"}),
        ("name,done,error", {"name": "o", "done": True}),
        ("name,done,error,metadata", {key: value for key, value in OPERATION.items() if key != "response"}),
        ("metadata/a", {"metadata": {"a": 1}}),
        ("metadata.a", {"metadata": {"a": 1}}),
        ("metadata(a,@type)", {"metadata": {"a": 1, "@type": "m"}}),
        ("metadata/a,metadata/b,name", {"name": "o", "metadata": {"a": 1, "b": 2}}),
        ("*", OPERATION),
        ("metadata(*)", {"metadata": OPERATION["metadata"]}),
        ("error", {}),
    ],
)
def test_an_operation_has_only_the_fields_that_were_selected(mask: str, left: dict[str, Any]) -> None:
    """B11: names, nested ones after a slash or a dot or in parentheses, and all of them."""
    assert partial(OPERATION, check_mask(mask, "get")) == left


@pytest.mark.parametrize(
    ("mask", "left"),
    [
        ("operations(name,done),nextPageToken", {"operations": [{"name": "o", "done": True}, {"name": "p"}]}),
        ("operations/name,nextPageToken", {"operations": [{"name": "o"}, {"name": "p"}]}),
    ],
)
def test_a_list_has_only_the_fields_that_were_selected(mask: str, left: dict[str, Any]) -> None:
    """B11: those of each operation in it."""
    assert partial(PAGE, check_mask(mask, "list")) == {**left, "nextPageToken": "t"}
    assert partial({}, check_mask(mask, "list")) == {}


@pytest.mark.parametrize(
    ("mask", "verb", "path"),
    [
        ("name,nam", "get", "nam"),
        ("operations", "get", "operations"),
        ("name,done", "list", "name"),
        ("operations(name,size)", "list", "operations.size"),
        ("operations/size", "list", "operations.size"),
        *(
            (text, "get", text)
            for text in ("", "name,", ",name", "name done", "metadata(a", "metadata)", "a//b", "(", "a b")
        ),
    ],
)
def test_a_mask_that_cannot_be_read_is_refused(mask: str, verb: str, path: str) -> None:
    """B11: in the words of Google's APIs."""
    with pytest.raises(RefusedError, match="Error expanding 'fields' parameter") as caught:
        check_mask(mask, verb)
    assert f"path '{path}'" in str(caught.value)
    assert caught.value.status == "INVALID_ARGUMENT"
