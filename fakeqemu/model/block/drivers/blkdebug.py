"""blkdebug: errors on request, by rules that events switch on and states tell apart.

See block/blkdebug.c: blkdebug_open() and rule_check(); docs/devel/testing/blkdebug.rst.
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, Any

from fakeqemu.formats import extents
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import driver
from fakeqemu.model.block.drivers.filters import FILTER_ROLE, FilterDriver
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.filenames import FileArgument, exact_filename
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fakeqemu.formats.extents import Range
    from fakeqemu.model.block.graph.graph import Graph
    from fakeqemu.model.block.graph.node import Edge, Node

_SECTOR = 512
_LARGEST_LIMIT = (1 << 31) - 1

#: events that the model's images come to; others would never, and are refused
EVENTS = frozenset(
    {
        "none", "pwritev", "pwritev_zero", "pwritev_done", "cor_write", "read_aio", "write_aio",
        "flush_to_os", "flush_to_disk",
    }
)
#: those of qcow2's tables, where errors can begin but no request is held
_OF_TABLES = frozenset(
    {
        "l1_update", "l1_grow_alloc_table", "l1_grow_write_table", "l1_grow_activate_table",
        "l2_load", "l2_update_compressed", "l2_alloc_cow_read", "l2_alloc_write", "cow_read",
        "cow_write", "cluster_alloc", "cluster_alloc_bytes", "cluster_free", "reftable_load",
        "refblock_alloc", "refblock_alloc_write", "refblock_alloc_hookup", "read_compressed",
        "write_compressed",
    }
)
#: kinds of access that a rule without `iotype` is for
_USUAL = frozenset({"read", "write", "write-zeroes", "discard", "flush"})
#: option -> the limit it sets
_LIMITS = {
    "max-transfer": "max-transfer",
    "opt-write-zero": "write-zeroes-alignment",
    "max-write-zero": "max-write-zeroes",
    "opt-discard": "discard-alignment",
    "max-discard": "max-discard",
}
#: a permission's name in options -> its bit
_PERMISSIONS = {
    "consistent-read": perms.CONSISTENT_READ,
    "write": perms.WRITE,
    "write-unchanged": perms.WRITE_UNCHANGED,
    "resize": perms.RESIZE,
}

#: members of rules in a file
_NUMBERS = ("state", "new_state", "errno", "sector", "delay-ns")
_FLAGS = ("once", "immediately")
_ENUMS = {"event": "BlkdebugEvent", "iotype": "BlkdebugIOType"}


@driver
class Blkdebug(FilterDriver):
    """Errors injected on request."""

    name = "blkdebug"
    first_child = "image"
    reopens = True
    role = FILTER_ROLE
    takes_events = True
    in_file_names = True
    parses_filename = True
    ignored = ("config", "align", *_LIMITS, "inject-error", "set-state")
    strong = (
        "config", "inject-error", "set-state", "align", "max-transfer", "opt-write-zero",
        "max-write-zero", "opt-discard", "max-discard",
    )  # fmt: skip

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        graph.has_listeners = True
        self._state = 1
        #: rules by event, newest first
        self._injections: dict[str, list[dict[str, Any]]] = {}
        self._transitions: dict[str, list[dict[str, Any]]] = {}
        #: those that an event has switched on, first come first served
        self._active: list[dict[str, Any]] = []
        #: breakpoints, newest first: events and tags
        self._breakpoints: list[tuple[str, str]] = []
        #: how many have held a request
        self._held = 0
        #: requests held at them, newest first: tags, and what goes on with each
        self._suspended: list[tuple[str, Callable[[], None]]] = []
        self._limits: dict[str, int] = {}
        self._take, self._unshare = 0, 0

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Read the rules and check the limits. Raises QapiError."""
        given = dict(options)
        if "config" in options:
            self._read_config(options["config"])
        for rule in options.get("inject-error") or ():
            self._add(self._injections, rule)
        for rule in options.get("set-state") or ():
            self._add(self._transitions, rule)
        self._take = _bits(options.pop("take-child-perms", ()))
        self._unshare = _bits(options.pop("unshare-child-perms", ()))
        super().open(node, options)
        self._set_limits(node, given)
        self.event("none")

    def _add(self, rules: dict[str, list[dict[str, Any]]], rule: dict[str, Any]) -> None:
        event = rule["event"]
        if event not in EVENTS | _OF_TABLES:
            raise NotModelledError(f"blkdebug event {event}")
        if rule.get("delay-ns"):
            raise NotModelledError("blkdebug delay-ns")
        rules.setdefault(event, []).insert(0, dict(rule))

    def _set_limits(self, node: Node, options: dict[str, Any]) -> None:
        align = options.get("align", 0)
        if align and (align & align - 1 or align >= _LARGEST_LIMIT):
            raise QapiError(f"Cannot meet constraints with align {align}")
        below = self._below(node)
        align = max(align, below.driver.limits(below)["request-alignment"])
        self._limits = {"request-alignment": align}
        for name, limit in _LIMITS.items():
            value = options.get(name, 0)
            unit = align
            if name.startswith("max-") and name != "max-transfer":
                unit = max(align, options.get(name.replace("max", "opt", 1), 0))
            if value and (value >= _LARGEST_LIMIT or value % unit):
                raise QapiError(f"Cannot meet constraints with {name} {value}")
            if value:
                self._limits[limit] = value

    def limits(self, node: Node) -> dict[str, Any]:
        """Those asked for, else the image's."""
        return {**super().limits(node), **self._limits}

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int
    ) -> tuple[int, int]:
        """As for any filter, with what was asked for."""
        wanted, left = super().child_permissions(node, edge, perm, shared)
        return wanted | self._take, left & ~self._unshare

    # -- rules -----------------------------------------------------------------------------------

    def event(self, name: str) -> None:
        """Something has come about above: switch on its rules, and change the state.

        See block/blkdebug.c: blkdebug_co_debug_event() and process_rule().
        """
        found = [r for r in self._injections.get(name, ()) if self._applies(r)]
        if found:
            self._active = found[::-1]
        for rule in self._transitions.get(name, ()):
            if self._applies(rule):
                self._state = rule["new_state"]
                break
        for place in [each for each in self._breakpoints if each[0] == name]:
            self._suspend(place)

    # -- breakpoints -----------------------------------------------------------------------------

    def add_breakpoint(self, event: str, tag: str) -> bool:
        """Hold the next request that comes to an event; False if there is no such event.

        See block/blkdebug.c: blkdebug_debug_breakpoint().
        """
        if event not in self.graph.process.profile.schema.enum_values("BlkdebugEvent"):
            return False
        if event not in EVENTS:
            raise NotModelledError(f"blkdebug event {event}")
        self._breakpoints.insert(0, (event, tag))
        return True

    def remove_breakpoint(self, tag: str) -> bool:
        """Forget breakpoints of that tag and resume what they held; False if none are left."""
        found = [each for each in self._breakpoints if each[1] == tag]
        self._breakpoints[:] = [each for each in self._breakpoints if each[1] != tag]
        while self.resume(tag):
            pass
        return bool(found)

    def suspends(self, tag: str) -> bool:
        """Whether a request is held at a breakpoint of that tag."""
        return any(each == tag for each, _ in self._suspended)

    def resume(self, tag: str) -> bool:
        """Let the newest request held at a breakpoint of that tag go on; False if there is none."""
        for held in self._suspended:
            if held[0] == tag:
                self._suspended.remove(held)
                self._say(f"Resuming request '{tag}'")
                held[1]()
                return True
        return False

    def _suspend(self, place: tuple[str, str]) -> None:
        """Hold the request that has come to a breakpoint. Raises MustWaitError."""
        request = self.graph.waiting.suspendable
        if request is None:
            raise NotModelledError("blkdebug suspending others than aio_* and jobs")
        self._breakpoints.remove(place)
        self._held += 1
        tag = place[1]

        def suspend(answered: Callable[[bool], None]) -> None:
            self._suspended.insert(0, (tag, lambda: answered(True)))
            self._say(f"Suspended request '{tag}'")

        request.answer((self, self._held), suspend)

    def _say(self, text: str) -> None:
        """What is printed, but in tests."""
        if not self.graph.under_qtest():
            self.graph.process.host.print(f"blkdebug: {text}")

    def _applies(self, rule: dict[str, Any]) -> bool:
        return rule.get("state", 0) in (0, self._state)

    def _meet(self, kind: str, offset: int, count: int) -> None:
        """Fail as an active rule says. Raises BlockIoError."""
        for rule in self._active:
            wanted = rule.get("iotype")
            at = rule.get("sector", -1) * _SECTOR
            if kind not in ({wanted} if wanted else _USUAL):
                continue
            if at >= 0 and not offset <= at < offset + count:
                continue
            if rule.get("once", False):
                for rules in (self._active, *self._injections.values()):
                    rules[:] = [each for each in rules if each is not rule]
            number = rule.get("errno", errno.EIO)
            if number:
                raise extents.BlockIoError(os.strerror(number))
            return

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

    def flush_to_disk(self, node: Node) -> None:
        """Flush, or fail."""
        self._meet("flush", 0, 0)
        base.flush(self._below(node))

    def status(self, node: Node, start: int, end: int) -> Iterator[Range]:
        """What is where, or fail."""
        self._meet("block-status", start, end - start)
        return super().status(node, start, end)

    # -- the file of rules -------------------------------------------------------------------------

    def _read_config(self, path: str) -> None:
        """Rules out of a file in the format of -readconfig. Raises QapiError."""
        try:
            file = self.graph.files.open(path, writable=False)
            text = file.read(0, file.size()).decode(errors="replace")
            file.close()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            what = self.graph.process.profile.traits.blkdebug_no_config.format(path)
            raise QapiError(f"{what}: {reason}") from None
        rules: dict[str, list[dict[str, str]]] = {"inject-error": [], "set-state": []}
        group: dict[str, str] | None = None
        for number, line in enumerate(text.splitlines(), 1):
            words = line.strip()
            if not words or words.startswith("#"):
                continue
            if (head := re.fullmatch(r'\[([^\s"\]]+)(?: "[^"]*")?\]', words)) is not None:
                if head[1] not in rules:
                    raise QapiError(f"There is no option group '{head[1]}'")
                group = {}
                rules[head[1]].append(group)
            elif group is None:
                raise QapiError(f"{path}:{number}: no group defined")
            else:
                # a line without a value gives an empty one, as in QEMU
                pair = re.fullmatch(r'(\S+) *= *"([^"]*)".*', words)
                name, value = (pair[1], pair[2]) if pair else (words.split()[0], "")
                group[name] = value
        for each in rules["inject-error"]:
            self._add(self._injections, self._typed(each))
        for each in rules["set-state"]:
            self._add(self._transitions, self._typed(each))

    def _typed(self, rule: dict[str, str]) -> dict[str, Any]:
        """A rule of a file with numbers and flags for texts. Raises QapiError."""
        found: dict[str, Any] = {}
        for name, value in rule.items():
            if name in _NUMBERS:
                try:
                    found[name] = int(value, 0)
                except ValueError:
                    raise QapiError(f"Parameter '{name}' expects a number") from None
            elif name in _FLAGS:
                if value not in ("on", "off"):
                    raise QapiError(f"Parameter '{name}' expects 'on' or 'off'")
                found[name] = value == "on"
            elif name in _ENUMS:
                found[name] = value
            else:
                raise QapiError(f"Invalid parameter '{name}'")
        if "event" not in found:
            raise QapiError("Missing event name for rule")
        for name, enum in _ENUMS.items():
            known = self.graph.process.profile.schema.enum_values(enum)
            if name in found and found[name] not in known:
                raise QapiError(f"invalid parameter value: {found[name]}")
        return found

    # -- what it shows -----------------------------------------------------------------------------

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
        if not node.options.keys() <= {"config", "image"}:
            return ""
        below = exact_filename(edge.node)
        return f"blkdebug:{node.options.get('config', '')}:{below}" if below else ""

    def parse_filename(self, filename: str, others: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """`blkdebug:CONFIG:FILE`, or a name alone. Raises QapiError."""
        if not filename.startswith("blkdebug:"):
            return {"image": {"filename": FileArgument(filename)}}
        rest = filename.removeprefix("blkdebug:")
        config, colon, image = rest.partition(":")
        if not colon:
            raise QapiError("blkdebug requires both config file and image path")
        found: dict[str, Any] = {"config": config} if config else {}
        return {**found, "image": {"filename": FileArgument(image)}}


def _bits(names: Any) -> int:
    total = 0
    for name in names:
        total |= _PERMISSIONS[name]
    return total
