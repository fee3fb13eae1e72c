"""The threads of a source: what query-migrationthreads lists.

See migration/threadinfo.c: qmp_query_migrationthreads().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fakeqemu.model.host import Host

#: first thread id, where thread ids are counted
_THREADS = 2000


class MigrationThreads:
    """Threads of one machine's migrations, one migration after the other."""

    def __init__(self, host: Host) -> None:
        self._host = host
        #: names of threads that a query has listed
        self._shown: set[str] = set()

    def query(self, multifd_channels: int) -> list[dict[str, Any]]:
        """MigrationThreadInfo of each running thread, newest first."""
        names = ["mig/src/main"]
        names += [f"mig/src/send_{number}" for number in range(multifd_channels)]
        self._shown.update(names)
        threads = [
            {"name": name, "thread-id": self._host.thread_id(name, _THREADS + number)}
            for number, name in enumerate(names)
        ]
        return threads[::-1]

    def end(self) -> None:
        """The migration is over."""
        while self._shown:
            self._host.end_thread(self._shown.pop())
