"""Throttle limits: the values that go together and those that do not, in QEMU's words.

See util/throttle.c: throttle_is_valid(); block/throttle-groups.c: throttle_group_set().
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fakeqemu.qapi.errors import QapiError

_KINDS = tuple(f"{unit}-{way}" for unit in ("bps", "iops") for way in ("total", "read", "write"))
_LARGEST = 10**15


def expand_limits(given: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """ThrottleLimits with every member: those given, the others as they are."""
    return {name: given.get(name, value) for name, value in now.items()}


def from_properties(values: Mapping[str, Any]) -> dict[str, int]:
    """ThrottleLimits out of the `x-` properties."""
    limits: Mapping[str, int] = values["limits"]
    return {name: values.get(f"x-{name}", value) for name, value in limits.items()}


def to_properties(limits: Mapping[str, int]) -> dict[str, int]:
    """The `x-` properties of ThrottleLimits."""
    return {f"x-{name}": value for name, value in limits.items()}


def check_limits(limits: Mapping[str, int]) -> None:
    """Raise QapiError for limits that contradict each other."""
    for unit in ("bps", "iops"):
        for end in ("", "-max"):
            total = limits[f"{unit}-total{end}"]
            if total and (limits[f"{unit}-read{end}"] or limits[f"{unit}-write{end}"]):
                raise QapiError(
                    "bps/iops/max total values and read/write values cannot be used at the"
                    " same time"
                )
    if limits["iops-size"] and not any(limits[k] for k in _KINDS if k.startswith("iops")):
        raise QapiError("iops size requires an iops value to be set")
    for kind in _KINDS:
        _check_bucket(limits[kind], limits[f"{kind}-max"], limits[f"{kind}-max-length"])


def _check_bucket(average: int, burst: int, length: int) -> None:
    if not (0 <= average <= _LARGEST and 0 <= burst <= _LARGEST):
        raise QapiError(f"bps/iops/max values must be within [0, {_LARGEST}]")
    if not length:
        raise QapiError("the burst length cannot be 0")
    if length > 1 and not burst:
        raise QapiError("burst length set without burst rate")
    if burst and length > _LARGEST // burst:
        raise QapiError("burst length too high for this burst rate")
    if burst and not average:
        raise QapiError("bps_max/iops_max require corresponding bps/iops values")
    if burst and burst < average:
        raise QapiError("bps_max/iops_max cannot be lower than bps/iops")
