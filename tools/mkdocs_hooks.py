"""What MkDocs does not do itself: the roles of Sphinx in docstrings (``:class:`~a.b.C```) become plain code."""

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:class|mod|meth|func|attr|exc|data):<code>(~?)([\w.]+)</code>")
_TITLED = re.compile(r":(?:class|mod|meth|func|attr|exc|data):<code>([^<]*?)\s+&lt;[\w.~]+&gt;</code>")


def on_page_content(html: str, **_: Any) -> str:
    """See MkDocs' hooks: called with each page as HTML."""
    html = _TITLED.sub(r"<code>\1</code>", html)
    return _ROLE.sub(lambda found: f"<code>{found[2].rpartition('.')[2] if found[1] else found[2]}</code>", html)
