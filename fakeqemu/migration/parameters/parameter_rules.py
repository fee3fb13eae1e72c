"""Limits of migration parameters: one table in the order QEMU checks it.

A rule of a member that a version lacks is skipped, so one order serves all versions. The
check always sees the whole merged set, and only the first error is reported. Its wording is a
trait: up to 10.x `Parameter 'multifd_channels' expects ...`, later `Option multifd-channels expects
...`.

See migration/options.c: migrate_params_check().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fakeqemu.dataclass import dataclass
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes
from fakeqemu.qapi.readers.scalars import is_identifier
from fakeqemu.traits import Traits

#: the page size of every x86 machine, the least size of the XBZRLE cache
TARGET_PAGE_SIZE = 4096

ZERO_COPY = "Zero copy only available for non-compressed non-TLS multifd migration"
MAPPED_RAM = "Mapped-ram only available for non-compressed non-TLS multifd migration"

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ParameterRule:
    """The limits of one parameter."""

    member: str
    #: predicate of the parameter's value and the merged values
    good: Callable[[Any, Values], bool]
    #: what the error says the parameter expects; `{cpu_throttle_initial}` is replaced by the name
    #: in the text's spelling
    what: str
    #: the name in the error where its spelling is irregular
    spelled: str | None = None
    #: the whole error text where its form is irregular; `{name}` is the usual spelling
    text: str | None = None


def _between(low: int, high: int) -> Callable[[Any, Values], bool]:
    return lambda value, _: low <= value <= high


def _power_of_two(low: int, high: int = 1 << 63) -> Callable[[Any, Values], bool]:
    return lambda value, _: low <= value <= high and value & (value - 1) == 0


def _throttle_max(value: Any, values: Values) -> bool:
    return bool(values["cpu-throttle-initial"] <= value <= 99)


BEFORE_MAPPING = (
    ParameterRule("compress-level", _between(0, 9), "a value between 0 and 9"),
    ParameterRule("compress-threads", _between(1, 255), "a value between 1 and 255"),
    ParameterRule("decompress-threads", _between(1, 255), "a value between 1 and 255"),
    ParameterRule(
        "throttle-trigger-threshold", _between(1, 100), "an integer in the range of 1 to 100"
    ),
    ParameterRule("cpu-throttle-initial", _between(1, 99), "an integer in the range of 1 to 99"),
    ParameterRule("cpu-throttle-increment", _between(1, 99), "an integer in the range of 1 to 99"),
    ParameterRule(
        "downtime-limit", _between(0, 2_000_000), "an integer in the range of 0 to (2000 * 1000) ms"
    ),
    ParameterRule("multifd-channels", _between(1, 255), "a value between 1 and 255"),
    ParameterRule("multifd-zlib-level", _between(0, 9), "a value between 0 and 9"),
    ParameterRule("multifd-qatzip-level", _between(1, 9), "a value between 1 and 9"),
    ParameterRule("multifd-zstd-level", _between(0, 20), "a value between 0 and 20"),
    ParameterRule(
        "xbzrle-cache-size",
        _power_of_two(TARGET_PAGE_SIZE),
        "a power of two no less than the target page size",
    ),
    ParameterRule(
        "max-cpu-throttle", _throttle_max, "an integer in the range of {cpu_throttle_initial} to 99"
    ),
    ParameterRule("announce-initial", _between(0, 100_000), "a value between 0 and 100000"),
    ParameterRule("announce-max", _between(0, 100_000), "a value between 0 and 100000"),
    ParameterRule("announce-rounds", _between(0, 1000), "a value between 0 and 1000"),
    # QEMU's text says 0, its check says 1
    ParameterRule("announce-step", _between(1, 10_000), "a value between 0 and 10000"),
)

AFTER_CAPABILITIES = (
    ParameterRule(
        "x-vcpu-dirty-limit-period",
        _between(1, 1000),
        "a value between 1 and 1000",
        spelled="x-vcpu-dirty-limit-period",
    ),
    ParameterRule(
        "vcpu-dirty-limit",
        lambda value, _: value >= 1,
        "",
        text="Parameter '{name}' must be greater than 1 MB/s",
    ),
    ParameterRule(
        "x-rdma-chunk-size",
        _power_of_two(1 << 20, 1 << 30),
        "a power of 2 in the range 1MiB to 1024MiB",
        spelled="x_rdma_chunk_size",
    ),
)


def check_parameters(
    merged: Values, current: Values, capability: Callable[[str], bool], traits: Traits
) -> None:
    """Raise QapiError with the first error of the merged values.

    `current` are the values before the change: the mapped-ram rule looks at those, as in QEMU, so
    it applies one call too late.
    """
    for rule in BEFORE_MAPPING:
        _check(rule, merged, traits)
    if "block-bitmap-mapping" in merged:
        _check_mapping(merged["block-bitmap-mapping"])
    if capability("zero-copy-send") and compressed_or_tls(merged):
        raise QapiError(ZERO_COPY)
    if capability("mapped-ram") and compressed_or_tls(current):
        raise QapiError(MAPPED_RAM)
    for rule in AFTER_CAPABILITIES:
        _check(rule, merged, traits)


def compressed_or_tls(values: Values) -> bool:
    """Whether multifd compression or TLS is set up."""
    return values.get("multifd-compression", "none") != "none" or bool(values.get("tls-creds"))


def _check(rule: ParameterRule, values: Values, traits: Traits) -> None:
    if rule.member not in values or rule.good(values[rule.member], values):
        return
    dashed = traits.range_text_option
    name = rule.member if dashed else rule.member.replace("-", "_")
    if rule.text is not None:
        raise QapiError(rule.text.format(name=name))
    initial = "cpu-throttle-initial" if dashed else "cpu_throttle_initial"
    what = rule.what.format(cpu_throttle_initial=initial)
    name = rule.spelled or name
    if traits.range_text_option:
        raise QapiError(f"Option {name} expects {what}")
    raise QapiError(f"Parameter '{name}' expects {what}")


# -- block-bitmap-mapping ------------------------------------------------------------------------

#: aliases travel with one length byte, names are bounded by the block layer
_ALIAS_MAX = 255
_NODE_NAME_MAX = 31
_BITMAP_NAME_MAX = 1023


def _check_mapping(mapping: list[dict[str, Any]]) -> None:
    try:
        _check_nodes(mapping)
    except QapiError as error:
        raise error.prefixed("Invalid mapping given for block-bitmap-mapping: ") from None


def _check_nodes(mapping: list[dict[str, Any]]) -> None:
    # two passes, as QEMU builds the map of each direction: names first, then aliases
    nodes: set[str] = set()
    for node in mapping:
        name, alias = node["node-name"], node["alias"]
        if not is_identifier(alias):
            raise QapiError(f"The node alias '{alias}' is not well-formed")
        if len(c_bytes(alias)) > _ALIAS_MAX:
            raise QapiError(f"The node alias '{alias}' is longer than {_ALIAS_MAX} bytes")
        if len(c_bytes(name)) > _NODE_NAME_MAX:
            raise QapiError(f"The node name '{name}' is longer than {_NODE_NAME_MAX} bytes")
        if name in nodes:
            raise QapiError(f"The node name '{name}' is mapped twice")
        nodes.add(name)
        _check_bitmap_names(name, node["bitmaps"])
    aliases: set[str] = set()
    for node in mapping:
        alias = node["alias"]
        if alias in aliases:
            raise QapiError(f"The node alias '{alias}' is used twice")
        aliases.add(alias)
        bitmap_aliases: set[str] = set()
        for bitmap in node["bitmaps"]:
            if bitmap["alias"] in bitmap_aliases:
                raise QapiError(f"The bitmap alias '{alias}'/'{bitmap['alias']}' is used twice")
            bitmap_aliases.add(bitmap["alias"])


def _check_bitmap_names(node_name: str, bitmaps: list[dict[str, Any]]) -> None:
    names: set[str] = set()
    for bitmap in bitmaps:
        name, alias = bitmap["name"], bitmap["alias"]
        if len(c_bytes(alias)) > _ALIAS_MAX:
            raise QapiError(f"The bitmap alias '{alias}' is longer than {_ALIAS_MAX} bytes")
        if len(c_bytes(name)) > _BITMAP_NAME_MAX:
            raise QapiError(f"The bitmap name '{name}' is longer than {_BITMAP_NAME_MAX} bytes")
        if name in names:
            raise QapiError(f"The bitmap '{node_name}'/'{name}' is mapped twice")
        names.add(name)
