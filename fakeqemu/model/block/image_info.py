"""What is particular to an image's format, as text.

See block/qapi.c: bdrv_image_info_specific_dump().
"""

from __future__ import annotations

from typing import Any

_SPECIFIC_ORDER = (
    "compat", "compression-type", "lazy-refcounts", "refcount-bits", "corrupt", "extended-l2",
)  # fmt: skip


def specific_text(data: dict[str, Any]) -> str:
    """Members of an ImageInfoSpecific's `data`, one a line, indented."""
    return "".join(
        f"    {name.replace('-', ' ')}: {_plain(data[name])}\n"
        for name in _SPECIFIC_ORDER if name in data
    )  # fmt: skip


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
