"""What is still copied after a request of a job has failed: what was sent before.

Mirror and backup have many requests on their way at a time. When one fails no more are sent, and
the job reacts once the others have ended. See block/mirror.c: mirror_iteration() and mirror_run();
block/block-copy.c: block_copy_dirty_clusters().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.formats.extents import BlockIoError

#: requests of a mirror at a time
MAX_IN_FLIGHT = 16


class InFlight:
    """Requests that are sent together, `width` at a time where that is given."""

    def __init__(self, width: int | None = None) -> None:
        self._width = width
        self._ended = 0
        #: the first that failed
        self.failure: BlockIoError | None = None
        #: the first that failed and is to end the job
        self.reported: BlockIoError | None = None

    def failed(self, error: BlockIoError, *, report: bool = False) -> None:
        """One has failed."""
        self.failure = self.failure or error
        if report:
            self.reported = self.reported or error

    def over(self) -> bool:
        """One has ended: whether one has failed, and the last that was sent with it is this."""
        self._ended += 1
        last = self._width is not None and self._ended % self._width == 0
        return last and self.failure is not None
