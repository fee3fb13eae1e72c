"""What is particular to an image's format, as text.

See block/qapi.c: bdrv_image_info_specific_dump().
"""

from __future__ import annotations

from typing import Any

_SPECIFIC_ORDER = (
    "compat", "compression-type", "lazy-refcounts", "refcount-bits", "encrypt", "corrupt",
    "extended-l2",
)  # fmt: skip


def specific_text(data: dict[str, Any]) -> str:
    """Members of an ImageInfoSpecific's `data`, one a line, indented."""
    return _lines({name: data[name] for name in _SPECIFIC_ORDER if name in data}, 1)


def _lines(value: dict[str, Any] | list[Any], depth: int) -> str:
    """Members or numbered elements, one a line, inner ones indented further."""
    listed = isinstance(value, list)
    pairs = enumerate(value) if isinstance(value, list) else value.items()
    text = ""
    for name, inner in pairs:
        label = f"[{name}]" if listed else str(name).replace("-", " ")
        text += "    " * depth + label + ":"
        nested = isinstance(inner, dict | list)
        text += "\n" + _lines(inner, depth + 1) if nested else f" {_plain(inner)}\n"
    return text


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
