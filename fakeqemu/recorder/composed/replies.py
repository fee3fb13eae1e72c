"""What a real QEMU answered to libvirt's probe: `tests/qemucapabilitiesdata/*.replies`.

A file is a row of JSON objects, each request followed by its reply. libvirt asks twice, under KVM
where the host has it and then, of what depends on the accelerator, under TCG.

See docs of libvirt's source: tests/qemucapabilitiesdata/README.rst.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Reply = dict[str, Any]
Request = tuple[str, dict[str, Any]]

#: what a profile cannot do without
_NEEDED = (
    *("query-version", "query-target", "query-qmp-schema", "qom-list-types", "query-machines"),
    *("query-command-line-options", "query-migrate-capabilities", "query-cpu-definitions"),
)


class Replies:
    """The requests and replies of one file."""

    def __init__(self, file: Path) -> None:
        """Read it. Raises OSError, and ValueError for a file that is no such recording."""
        #: its name without the ending: `caps_8.1.0_x86_64`
        self.name = file.name.removesuffix(".replies")
        try:
            self._rows = _rows(file.read_text("utf-8"))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} has no requests with replies in it: {error}") from None
        lacking = [name for name in _NEEDED if "return" not in self.last(name)]
        if lacking:
            raise ValueError(f"{file} has no reply of {lacking[0]}")
        #: `query-version`
        self.version: dict[str, Any] = self.value("query-version")
        #: `x86_64`, `aarch64`, ...
        self.target: str = self.value("query-target")["arch"]

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor version."""
        return self.version["qemu"]["major"], self.version["qemu"]["minor"]

    def last(self, command: str, arguments: dict[str, Any] | None = None) -> Reply:
        """The last reply to that request, which is TCG's; {} if it was not asked."""
        wanted = (command, arguments or {})
        return next((reply for asked, reply in reversed(self._rows) if asked == wanted), {})

    def value(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """What it returned; None where it failed or was not asked."""
        return self.last(command, arguments).get("return")

    def properties(self, command: str) -> dict[str, list[dict[str, Any]]]:
        """Type -> properties, of `device-list-properties` or `qom-list-properties`."""
        return {
            arguments["typename"]: reply["return"]
            for (name, arguments), reply in self._rows
            if name == command and "return" in reply
        }


def _rows(text: str) -> list[tuple[Request, Reply]]:
    decoder = json.JSONDecoder()
    found: list[dict[str, Any]] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        value, at = decoder.raw_decode(text, at)
        found.append(value)
        while at < end and text[at].isspace():
            at += 1
    rows: list[tuple[Request, Reply]] = []
    asked: Request | None = None
    for value in found:
        if "execute" in value:
            asked = (value["execute"], value.get("arguments", {}))
        elif asked is not None:
            rows.append((asked, {key: value[key] for key in ("return", "error") if key in value}))
            asked = None
    return rows
