"""query-migrate: both sides of a machine as one MigrationInfo.

See migration/migration.c: qmp_query_migrate(), fill_source_migration_info() and
fill_destination_migration_info().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.clock import MILLISECOND
from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.migration.state import POSTCOPY

if TYPE_CHECKING:
    from fakeqemu.migration.object import MigrationObject
    from fakeqemu.migration.outgoing.outgoing import Outgoing
    from fakeqemu.profile import Profile

#: powers of two of microseconds that latencies are sorted by
_LATENCY_BUCKETS = 24
#: states in which the source shows progress
_PROGRESS = frozenset({"active", "cancelling", "failing", "pre-switchover", "device"}) | POSTCOPY


def migration_info(profile: Profile, migration: MigrationObject) -> dict[str, Any]:
    """The reply of query-migrate."""
    info = _incoming(profile, migration) if migration.has("incoming") else {}
    reasons = migration.blockers.reasons(migration.mode)
    if reasons:
        info["blocked-reasons"] = reasons
    if migration.has("prepared") and migration.prepared.active:
        return {**info, "status": "prepared"}
    if migration.has("outgoing") and migration.outgoing.status != "none":
        info.update(_outgoing(profile, migration))
    return info


def _incoming(profile: Profile, migration: MigrationObject) -> dict[str, Any]:
    info: dict[str, Any] = {}
    incoming = migration.incoming
    if incoming.addresses:
        info["socket-address"] = [dict(address) for address in incoming.addresses]
    if incoming.status != "none":
        info["status"] = incoming.status
        if incoming.status == "completed" and migration.capabilities("postcopy-blocktime"):
            info.update(_blocktime(profile, migration))
        if incoming.error and profile.traits.error_shown_always:
            info["error-desc"] = incoming.error
    return info


def _outgoing(profile: Profile, migration: MigrationObject) -> dict[str, Any]:
    outgoing = migration.outgoing
    info: dict[str, Any] = {"status": outgoing.status}
    if outgoing.status in _PROGRESS or outgoing.status == "completed":
        info.update(_progress(profile, migration, outgoing))
    if outgoing.error and (profile.traits.error_shown_always or outgoing.status == "failed"):
        info["error-desc"] = outgoing.error
    return info


#: milliseconds that mean that there is no limit
_UNBOUNDED = (1 << 63) - 1


def _blocktime(profile: Profile, migration: MigrationObject) -> dict[str, Any]:
    """postcopy-blocktime: zero, since no vCPU runs that could wait for a page."""
    members, incoming = schemainfo.info_members(profile), migration.incoming
    vcpus = [0] * migration.vcpus
    times: dict[str, Any] = {"postcopy-blocktime": 0, "postcopy-vcpu-blocktime": vcpus}
    if "postcopy-latency" not in members:
        return times if incoming.postcopy_advised else {}
    if not incoming.was_postcopy:
        return {}
    return times | {
        "postcopy-latency": 0,
        "postcopy-latency-dist": [0] * _LATENCY_BUCKETS,
        "postcopy-vcpu-latency": vcpus,
        "postcopy-non-vcpu-latency": 0,
    }


def _progress(
    profile: Profile, migration: MigrationObject, outgoing: Outgoing
) -> dict[str, Any]:
    members = schemainfo.info_members(profile)
    transfer, done = outgoing.transfer, outgoing.status == "completed"
    info: dict[str, Any] = {
        "total-time": outgoing.total_time // MILLISECOND,
        "setup-time": outgoing.setup_time // MILLISECOND,
    }
    in_postcopy = outgoing.status in POSTCOPY and profile.traits.postcopy_shows_downtime
    if done or in_postcopy:
        info["downtime"] = outgoing.vm_stop.downtime // MILLISECOND
    else:
        info["expected-downtime"] = (
            _UNBOUNDED
            if profile.traits.expected_downtime_unbounded and transfer.speed_unknown
            else transfer.expected_downtime
        )
    info["ram"] = transfer.figures().ram(skipped="ram.skipped" in members)
    if not done and "remaining" in members:
        info["remaining"] = transfer.remaining
    if migration.capabilities("xbzrle"):
        info["xbzrle-cache"] = {
            "cache-size": migration.parameters["xbzrle-cache-size"],
            **dict.fromkeys(("bytes", "pages", "cache-miss", "overflow"), 0),
            **dict.fromkeys(("cache-miss-rate", "encoding-rate"), 0),
        }
    if transfer.throttle.percentage:
        info["cpu-throttle-percentage"] = transfer.throttle.percentage
    return info
