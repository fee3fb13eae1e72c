"""The options of a node as a flat object, as QEMU keeps them: those given, and those that follow.

See block.c: bdrv_inherited_options() and update_options_from_flags().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.model.block.graph.filenames import SpelledInt
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers import qemu_opts
from fakeqemu.qapi.readers.scalars import SizeTraits
from fakeqemu.qapi.schema import ArrayType, BuiltinType, ObjectType, Type

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Node
    from fakeqemu.profile import Profile

#: options every node takes
GENERIC = (
    "node-name", "driver", "cache", "read-only", "auto-read-only", "detect-zeroes",
    "force-share", "discard", "active",
)  # fmt: skip
#: options of drivers that are numbers; the others are sizes (QEMU_OPT_NUMBER, QEMU_OPT_SIZE)
_PLAIN_NUMBERS = {"open-timeout", "reconnect-delay", "latency-ns", "cache-clean-interval"}
_FLAT = frozenset({*GENERIC, "cache.direct", "cache.no-flush"})
#: what a child has from its parent where its own options do not say
_FOLLOWED = ("cache.direct", "cache.no-flush", "force-share", "active")
_ATTRIBUTES = (
    "read_only", "auto_read_only", "cache_direct", "cache_no_flush", "discard", "detect_zeroes",
    "inactive",
)  # fmt: skip


def inherited(
    options: Mapping[str, Any], above: Mapping[str, Any], *, cow: bool
) -> dict[str, Any]:
    """`options` and what they leave to the parent, whose own are `above`."""
    wanted: dict[str, Any] = {"discard": "unmap"}
    if cow:
        wanted |= {"read-only": True, "auto-read-only": False}
    names = _FOLLOWED if cow else (*_FOLLOWED, "read-only", "auto-read-only")
    wanted |= {name: above[name] for name in names if name in above}
    return {**wanted, **options}


def record(node: Node, given: Mapping[str, Any]) -> None:
    """Keep what a node is opened with."""
    node.explicit_options = {key: value for key, value in given.items() if key != "backing"}
    node.all_options = {**_flags(node), **node.explicit_options}


def leave_out_children(node: Node) -> None:
    """Children have options of their own."""
    prefixes = tuple(f"{name}." for name in node.children)
    for options in (node.explicit_options, node.all_options):
        for key in list(options):
            if key in node.children or (prefixes and key.startswith(prefixes)):
                del options[key]


def settled(node: Node) -> dict[str, Any]:
    """All that counts for a node now."""
    own = {"discard": node.discard, "detect-zeroes": node.detect_zeroes}
    return {**_flags(node), **node.all_options, **own}


def _flags(node: Node) -> dict[str, Any]:
    found = {
        "driver": node.driver.name,
        "cache.direct": node.cache_direct,
        "cache.no-flush": node.cache_no_flush,
        "read-only": node.read_only,
        "auto-read-only": node.auto_read_only,
    }
    return {**found, "force-share": True} if node.force_share else found


def take(node: Node, options: Mapping[str, Any], explicit: Mapping[str, Any]) -> None:
    """A node is reopened: these are its options."""
    gone = ("backing", *node.children)
    node.explicit_options = {k: v for k, v in explicit.items() if k not in gone}
    node.all_options = {k: v for k, v in options.items() if k not in gone}
    lists = {k: v for k, v in node.options.items() if isinstance(v, list)}
    plain = {k: v for k, v in node.all_options.items() if k not in _FLAT and "." not in k}
    node.options = {**lists, **plain}


def saved(node: Node) -> Callable[[], None]:
    """What gives a node back the flags that it has now."""
    before = {name: getattr(node, name) for name in _ATTRIBUTES}

    def put() -> None:
        for name, value in before.items():
            setattr(node, name, value)

    return put


def check_detect_zeroes(node: Node) -> None:
    """Raise QapiError where zeros are to be unmapped, and nothing is."""
    if node.detect_zeroes == "unmap" and node.discard != "unmap":
        raise QapiError(
            "setting detect-zeroes to unmap is not allowed"
            " without setting discard operation to unmap"
        )


class TypedOptions(dict[str, Any]):
    """Options with types; `spelled` has the texts of switches, which names of files keep."""

    def __init__(self) -> None:
        super().__init__()
        self.spelled: dict[str, str] = {}


def typed(profile: Profile, options: dict[str, Any], driver: str | None = None) -> TypedOptions:
    """BlockdevOptions of which some came as texts; those of a driver that is known get their types.

    `driver`: where they name none. Raises QapiError.
    """
    kind = profile.schema.commands["blockdev-add"].arg_type
    name = options.get("driver", driver)
    members = {m.name: m.type for m in kind.members}
    variant = kind.variant(name) if name is not None else None
    for member in variant.members if variant is not None else ():
        members[member.name] = member.type
    found = TypedOptions()
    found.spelled |= getattr(options, "spelled", {})
    for key, value in options.items():
        listed = isinstance(members.get(key), ArrayType)
        if isinstance(value, dict) and key != "cache" and not listed:
            inner = "file" if key == "file" and "driver" not in value else None
            found[key] = typed(profile, value, inner)
        elif key in members:
            found[key] = _value(members[key], value, key, profile.traits)
            if isinstance(found[key], bool) and isinstance(value, str):
                found.spelled[key] = value
        else:
            found[key] = value
    return found


def _value(type: Type, text: Any, name: str, traits: SizeTraits) -> Any:
    if isinstance(type, BuiltinType) and isinstance(text, str):
        if type.json_type == "boolean":
            return qemu_opts.parse_bool(name, text)
        if type.json_type == "int" and name.rpartition(".")[2] in _PLAIN_NUMBERS:
            return qemu_opts.parse_number(name, text)
        if type.json_type == "int":
            return SpelledInt.of(qemu_opts.parse_size(name, text, traits), text)
    if isinstance(text, dict) and isinstance(type, ArrayType) and _numbered(text):
        # list members by their number: see qobject/block-qdict.c: qdict_array_split()
        return [
            _value(type.element, text[str(number)], f"{name}.{number}", traits)
            for number in range(len(text))
        ]
    if isinstance(text, dict) and isinstance(type, ObjectType):
        members = {m.name: m.type for m in type.members}
        return {
            k: _value(members[k], v, f"{name}.{k}", traits) if k in members else v
            for k, v in text.items()
        }
    return text


def _numbered(members: Mapping[str, Any]) -> bool:
    return set(members) == {str(number) for number in range(len(members))}


def with_children(options: dict[str, Any], parsed: dict[str, Any]) -> dict[str, Any]:
    """`options` and what a file name says; a child of which it tells may have options besides.

    Raises QapiError for one that has a name twice.
    """
    found = {**options, **parsed}
    for name, child in parsed.items():
        more = options.get(name)
        if isinstance(child, dict) and isinstance(more, dict):
            if "filename" in more:
                text = "Can't specify 'file' and 'filename' options at the same time"
                raise QapiError(text)
            found[name] = {**child, **more}
    return found
