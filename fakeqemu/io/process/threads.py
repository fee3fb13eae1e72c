"""Threads that do nothing: management tools pin and schedule vCPUs by their thread ids.

Those of iothreads are there with their objects, those of vCPUs when somebody asks for the ids, and
all after daemonizing. They block for good on a lock.

See util/qemu-thread-posix.c: qemu_thread_create(); hw/core/machine-qmp-cmds.c:
qmp_query_cpus_fast().
"""

from __future__ import annotations

import _thread
import contextlib

#: bytes; the least that the interpreter takes
_STACK = 1 << 16
#: what the kernel keeps of a thread's name
_NAME = 15


class ParkedThreads:
    """Threads by name."""

    def __init__(self) -> None:
        self._parked: dict[str, tuple[int, _thread.LockType]] = {}

    def id_of(self, name: str) -> int:
        """The kernel's number of the thread called `name`, which is made if it is not there."""
        if name not in self._parked:
            self._parked[name] = _park(name)
        return self._parked[name][0]

    def end(self, name: str) -> None:
        """Let that thread go, if there is one."""
        _, gate = self._parked.pop(name, (0, None))
        if gate is not None:
            gate.release()


def _park(name: str) -> tuple[int, _thread.LockType]:
    gate, started = _thread.allocate_lock(), _thread.allocate_lock()
    ids: list[int] = []
    gate.acquire()
    started.acquire()

    def wait() -> None:
        ids.append(_thread.get_native_id())
        with contextlib.suppress(OSError), open(  # noqa: PTH123
            f"/proc/self/task/{ids[0]}/comm", "w", encoding="utf-8"
        ) as file:
            file.write(name[:_NAME])
        started.release()
        gate.acquire()

    before = _thread.stack_size(_STACK)
    try:
        _thread.start_new_thread(wait, ())
    finally:
        _thread.stack_size(before)
    started.acquire()
    return ids[0], gate
