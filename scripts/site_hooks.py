"""What mkdocs does with pages before it makes the site of them."""

from __future__ import annotations

import re
from typing import Any

#: a link to a file of the repository that is no page of the site
_OUTSIDE = re.compile(
    r"\[([^\]]+)\]\((?:\.\./)+(?:tests|scripts|fakeqemu|schemas|deploy|[A-Z]+\.md)[^)]*\)"
)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page without links to what the site has not."""
    return _OUTSIDE.sub(r"\1", markdown)
