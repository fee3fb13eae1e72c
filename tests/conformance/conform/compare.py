"""What a record expects against what was seen."""

from __future__ import annotations

import json
import re
from typing import Any

# Keys whose scalar values say nothing about behaviour: their type alone is compared.
VOLATILE_KEYS = {
    "timestamp",
    "seconds",
    "microseconds",
    "thread-id",
    "pid",
    "package",
    "total-time",
    "setup-time",
    "downtime",
    "expected-downtime",
    "transferred",
    "remaining",
    "total",
    "duplicate",
    "skipped",
    "normal",
    "normal-bytes",
    "dirty-pages-rate",
    "mbps",
    "dirty-sync-count",
    "postcopy-requests",
    "page-size",
    "multifd-bytes",
    "pages-per-second",
    "precopy-bytes",
    "downtime-bytes",
    "postcopy-bytes",
    "dirty-sync-missed-zero-copy",
    "cpu-throttle-percentage",
    "max-bandwidth-used",
    "postcopy-latency",
    "postcopy-non-vcpu-latency",
    "postcopy-blocktime",
    "date-sec",
    "date-nsec",
    "vm-clock-sec",
    "vm-clock-nsec",
    "fd",
}


def type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return {str: "string", list: "list", dict: "object", type(None): "null"}[type(value)]


def generalize(values: list[Any], key: str = "") -> Any:
    """One expectation that every one of `values` meets; leaves that vary become {"$any": type}."""
    first = values[0]
    kinds = {type_name(value) for value in values}
    if len(kinds) > 1:
        return {"$any": "value"}
    if kinds == {"object"}:
        keys = {name for value in values for name in value}
        expect = {}
        for name in sorted(keys):
            present = [value[name] for value in values if name in value]
            item = generalize(present, name)
            if len(present) < len(values):
                item = {"$optional": item}
            expect[name] = item
        return expect
    if kinds == {"list"}:
        if len({len(value) for value in values}) > 1:
            return {"$any": "list"}
        return [generalize(list(column), key) for column in zip(*values, strict=True)]
    if key in VOLATILE_KEYS or any(value != first for value in values):
        return {"$any": kinds.pop()}
    return first


def differences(expect: Any, got: Any, where: str = "") -> list[str]:
    """Where `got` departs from `expect`, one line each; empty if it conforms."""
    if isinstance(expect, dict):
        if set(expect) == {"$any"}:
            if expect["$any"] in ("value", type_name(got)):
                return []
            return [f"{where}: expected any {expect['$any']}, got {json.dumps(got)[:120]}"]
        if set(expect) == {"$set"}:
            if not isinstance(got, list):
                return [f"{where}: expected a list"]
            want, have = (
                {json.dumps(i, sort_keys=True) for i in side} for side in (expect["$set"], got)
            )
            lines = [f"{where}: lacks {item[:160]}" for item in sorted(want - have)]
            return lines + [f"{where}: has extra {item[:160]}" for item in sorted(have - want)]
        if set(expect) == {"$match"}:
            if isinstance(got, str) and re.search(expect["$match"], got):
                return []
            return [f"{where}: {json.dumps(got)[:160]} does not match {expect['$match']!r}"]
        if not isinstance(got, dict):
            return [f"{where}: expected an object, got {json.dumps(got)[:160]}"]
        lines = []
        for key, item in expect.items():
            optional = isinstance(item, dict) and set(item) == {"$optional"}
            if key not in got:
                if not optional:
                    lines.append(f"{where}.{key}: missing")
                continue
            lines += differences(
                item["$optional"] if optional else item, got[key], f"{where}.{key}"
            )
        lines += [
            f"{where}.{key}: unexpected ({json.dumps(got[key])[:80]})"
            for key in got
            if key not in expect
        ]
        return lines
    if isinstance(expect, list):
        if not isinstance(got, list):
            return [f"{where}: expected a list, got {json.dumps(got)[:160]}"]
        if len(expect) != len(got):
            return [
                f"{where}: expected {len(expect)} items, got {len(got)}: {json.dumps(got)[:240]}"
            ]
        return [
            line
            for index, (want, have) in enumerate(zip(expect, got, strict=True))
            for line in differences(want, have, f"{where}[{index}]")
        ]
    if expect != got or isinstance(expect, bool) != isinstance(got, bool):
        return [f"{where}: expected {json.dumps(expect)[:160]}, got {json.dumps(got)[:160]}"]
    return []


def order_free(value: Any, step: dict[str, Any]) -> Any:
    """Lists whose order QEMU leaves open are compared as sets: mark with "unordered": true."""
    if step.get("unordered") and isinstance(value, dict) and isinstance(value.get("return"), list):
        return {**value, "return": {"$set": value["return"]}}
    return value
