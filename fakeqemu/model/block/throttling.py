"""How throttle groups hold requests back: leaky buckets.

Each request goes into its group's buckets, which leak at the rate of the limits. While one is too
full the next request waits. So short bursts pass, and longer ones where the limits have a `-max`.
See util/throttle.c: throttle_compute_wait().
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND
from fakeqemu.dataclass import dataclass
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.process import Process
    from fakeqemu.model.qom.tree import QomObject
    from fakeqemu.model.qom.user_creatable import Objects

_TOTAL, _READ, _WRITE = "total", "read", "write"
#: a bucket without `-max` takes what leaks in this part of a second
_BURST = 10


@dataclass(slots=True)
class _Bucket:
    level: float = 0.0
    burst_level: float = 0.0


class _ThrottleState:
    """The buckets of one group. Times are nanoseconds of the machine's clock."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}
        self._leaked_at: int | None = None

    def account(
        self, limits: Mapping[str, int], count: int, now: int, *, writes: bool
    ) -> None:
        """A request of `count` bytes passes. See util/throttle.c: throttle_account()."""
        self._leak(limits, now)
        size = limits.get("iops-size", 0)
        operations = count / size if size and count > size else 1.0
        for unit, amount in (("bps", float(count)), ("iops", operations)):
            for way in (_TOTAL, _WRITE if writes else _READ):
                bucket = self._buckets.setdefault(f"{unit}-{way}", _Bucket())
                bucket.level += amount
                if limits.get(f"{unit}-{way}-max-length", 1) > 1:
                    bucket.burst_level += amount

    def wait(self, limits: Mapping[str, int], now: int, *, writes: bool) -> int:
        """How long the next request has to wait. See util/throttle.c: throttle_compute_wait()."""
        self._leak(limits, now)
        ways = (_TOTAL, _WRITE if writes else _READ)
        return max(
            self._bucket_wait(limits, f"{unit}-{way}") for unit in ("bps", "iops") for way in ways
        )

    def _bucket_wait(self, limits: Mapping[str, int], name: str) -> int:
        average, most = limits.get(name, 0), limits.get(f"{name}-max", 0)
        length = limits.get(f"{name}-max-length", 1)
        bucket = self._buckets.get(name)
        if not average or bucket is None:
            return 0
        extra = bucket.level - (most * length if most else average / _BURST)
        if extra > 0:
            return int(extra * SECOND / average)
        extra = bucket.burst_level - most / _BURST
        return int(extra * SECOND / most) if length > 1 and extra > 0 else 0

    def _leak(self, limits: Mapping[str, int], now: int) -> None:
        since, self._leaked_at = self._leaked_at, now
        if since is None:
            return
        for name, bucket in self._buckets.items():
            seconds = (now - since) / SECOND
            bucket.level = max(bucket.level - limits.get(name, 0) * seconds, 0.0)
            most = limits.get(f"{name}-max", 0)
            bucket.burst_level = max(bucket.burst_level - most * seconds, 0.0)


class ThrottleGroups:
    """What has passed through each group."""

    def __init__(self, process: Process, objects: Objects) -> None:
        self._process, self._objects = process, objects
        #: groups of block_set_io_throttle: name -> limits
        self.groups: dict[str, dict[str, Any]] = {}
        objects.completers["throttle-group"] = self._check_name
        self._states: dict[str, _ThrottleState] = {}

    def names(self) -> set[str]:
        """Names of all throttle groups: objects, and those that backends made."""
        made = {obj.name for obj in self._objects.of_type("throttle-group")}
        return made | set(self.groups)

    def _check_name(self, obj: QomObject) -> None:
        if obj.name in self.groups:
            raise QapiError("A group with this name already exists")

    def _limits(self, group: str) -> Mapping[str, int]:
        """ThrottleLimits of a group, which an object or a disk's options have created."""
        for obj in self._objects.of_type("throttle-group"):
            if obj.name == group:
                found: Mapping[str, int] = obj.values["limits"]
                return found
        return self.groups.get(group, {})

    def pass_through(self, group: str, count: int, *, writes: bool) -> int:
        """Let a request pass; nanoseconds until the next one may."""
        state, limits = self._state(group), self._limits(group)
        state.account(limits, count, self._process.clock.now(), writes=writes)
        return state.wait(limits, self._process.clock.now(), writes=writes)

    def wait(self, group: str, *, writes: bool) -> int:
        """Nanoseconds until a request may pass, which is not made."""
        now = self._process.clock.now()
        return self._state(group).wait(self._limits(group), now, writes=writes)

    def hold_back(
        self, groups: Collection[str], count: int, *, writes: bool, then: Callable[[], None]
    ) -> bool:
        """Whether a request has to wait for groups that it passes; `then` is called after that.

        One that need not wait counts as made. See block/throttle-groups.c:
        throttle_group_co_io_limits_intercept().
        """
        now = self._process.clock.now()
        waits = [
            self._state(group).wait(self._limits(group), now, writes=writes) for group in groups
        ]
        if max(waits, default=0) > 0:

            def again() -> None:
                if not self.hold_back(groups, count, writes=writes, then=then):
                    then()

            self._process.call_later(max(waits), again)
            return True
        for group in groups:
            self.pass_through(group, count, writes=writes)
        return False

    def _state(self, group: str) -> _ThrottleState:
        return self._states.setdefault(group, _ThrottleState())
