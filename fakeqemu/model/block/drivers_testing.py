"""Filters that QEMU's own tests are made of: errors on request, and two images compared."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from fakeqemu.model.block import driver as base
from fakeqemu.model.block import permissions as perms
from fakeqemu.model.block.driver import Driver, driver
from fakeqemu.model.block.drivers_filter import FILTER_ROLE, Filter
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.node import Node

_SECTOR = 512


@driver
class Blkdebug(Filter):
    """Errors injected on request: those that happen whatever a format is about to do."""

    _rules: list[dict[str, Any]]

    name = "blkdebug"
    first_child = "image"
    role = FILTER_ROLE
    ignored = (
        "config", "align", "max-transfer", "opt-write-zero", "max-write-zero", "opt-discard",
        "max-discard", "inject-error", "set-state", "take-child-perms", "unshare-child-perms",
    )  # fmt: skip
    strong = ("config", "inject-error", "set-state")

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Check the alignment. Raises QapiError."""
        align = options.get("align", 0)
        super().open(node, options)
        if align and (align & align - 1 or align >= 1 << 31):
            raise QapiError(f"Cannot meet constraints with align {align}")
        self._rules = [dict(rule) for rule in node.options.get("inject-error") or ()]

    def _meet(self, kind: str, offset: int, count: int) -> None:
        """Fail as a rule says. Raises BlockIoError."""
        for rule in list(self._rules):
            iotype, sector = rule.get("iotype"), rule.get("sector", -1)
            if rule["event"] != "none" or rule.get("state", 1) not in (0, 1):
                continue
            if iotype not in (None, kind):
                continue
            if sector >= 0 and not offset <= sector * _SECTOR < offset + count:
                continue
            if rule.get("once", False):
                self._rules.remove(rule)
            if number := rule.get("errno", errno.EIO):
                raise base.BlockIoError(os.strerror(number))

    def read(self, node: Node, offset: int, count: int) -> bytes:
        """Read, or fail."""
        self._meet("read", offset, count)
        return super().read(node, offset, count)

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Write, or fail."""
        self._meet("write", offset, len(data))
        super().write(node, offset, data)

    def zero(self, node: Node, offset: int, count: int) -> None:
        """Write zeros, or fail."""
        self._meet("write-zeroes", offset, count)
        super().zero(node, offset, count)

    def discard(self, node: Node, offset: int, count: int) -> None:
        """Discard, or fail."""
        self._meet("discard", offset, count)
        super().discard(node, offset, count)

    def significant_options(self, node: Node) -> dict[str, Any]:
        """Rules as one option each, numbered."""
        found: dict[str, Any] = {}
        for name, value in super().significant_options(node).items():
            if not isinstance(value, list):
                found[name] = value
                continue
            for number, rule in enumerate(value):
                found.update({f"{name}.{number}.{key}": each for key, each in rule.items()})
        return found

    def allocated(self, node: Node) -> int | None:  # noqa: ARG002
        """It does not say."""
        return None

    def exact_filename(self, node: Node) -> str | None:
        """`blkdebug:CONFIG:FILE` where nothing else was given."""
        edge = node.children["image"]
        if any(key in node.options for key in ("inject-error", "set-state")):
            return ""
        below = edge.node.exact_filename
        return f"blkdebug:{node.options.get('config', '')}:{below}" if below else ""


@driver
class Blkverify(Driver):
    """Two images compared."""

    name = "blkverify"
    is_filter = True
    first_child = "raw"
    role = FILTER_ROLE

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Open the image to compare. Raises QapiError."""
        from fakeqemu.model.block.opener import open_node

        if "raw" not in node.children:
            raise QapiError('A block device must be specified for "raw"')
        test = open_node(self.graph, options.pop("test"), parent=node)
        self.graph.attach(node, "test", test, frozenset({perms.DATA}))
