"""The options of a node as a flat object, as QEMU keeps them: those given, and those that follow.

See block.c: bdrv_inherited_options() and update_options_from_flags().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Node

#: options every node takes
GENERIC = (
    "node-name", "driver", "cache", "read-only", "auto-read-only", "detect-zeroes",
    "force-share", "discard", "active",
)  # fmt: skip
_FLAT = frozenset({*GENERIC, "cache.direct", "cache.no-flush"})
#: what a child has from its parent where its own options do not say
_FOLLOWED = ("cache.direct", "cache.no-flush", "force-share")
_ATTRIBUTES = (
    "read_only", "auto_read_only", "cache_direct", "cache_no_flush", "discard", "detect_zeroes",
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
