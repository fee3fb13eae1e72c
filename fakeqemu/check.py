"""What is wrong with a command line, or would be without a word: for people who write one.

The machine boots as for `fakeqemu explain`, but files, descriptors and TAP interfaces of this host
are looked at. Nothing is opened for good, bound or written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from fakeqemu.explain import Explained, boot_against
from fakeqemu.io.host_facts import HostFacts
from fakeqemu.model.host import TapInterface
from fakeqemu.model.null_host import NullHost
from fakeqemu.qapi import reads
from fakeqemu.qapi.errors import NotModelledError

if TYPE_CHECKING:
    from fakeqemu.io.net_taps import TapInterfaces
    from fakeqemu.profile import Profile

#: kinds of findings for which the exit status is 1
SERIOUS = ("refused", "not modelled", "hazard")


class LookingHost(HostFacts, NullHost):
    """This host, of which nothing is taken."""

    def __init__(self, interfaces: TapInterfaces | None = None) -> None:
        super().__init__()
        self._interfaces = interfaces

    def open_tap(self, ifname: str, *, multi_queue: bool, given: bool) -> TapInterface:
        """Whether it could be opened now, and beside whom. Raises QapiError."""
        if self._interfaces is None:
            return TapInterface()
        shared = self._interfaces.is_shared(ifname, multi_queue=multi_queue, given=given)
        return TapInterface(shared=shared)

    def read_file(self, path: str) -> bytes:
        """A file's content. Raises OSError."""
        with open(path, "rb") as file:  # noqa: PTH123 - to pathlib an empty name is a folder
            return file.read()

    def passed_fd(self, fd: int) -> int:
        """What came through exec."""
        try:
            return fd if os.get_inheritable(fd) else -1
        except (OSError, OverflowError):
            return -1


def check(
    argv: Sequence[str],
    profile: Profile,
    *,
    interfaces: TapInterfaces | None,
    as_posted: bool,
    out: TextIO,
) -> int:
    """Print what there is to say of `argv`, a line each; 1 if something is SERIOUS, else 0."""
    found = list(findings(argv, profile, interfaces=interfaces, as_posted=as_posted))
    for kind, text in found:
        out.write(f"{kind}: {text}\n")
    return int(any(kind in SERIOUS for kind, _ in found))


def findings(
    argv: Sequence[str],
    profile: Profile,
    *,
    interfaces: TapInterfaces | None = None,
    as_posted: bool = False,
) -> Iterator[tuple[str, str]]:
    """Pairs of kind and text, in this order:

    - "message": a line on standard error, before whatever else
    - "refused": why the start fails, in QEMU's words
    - "not modelled": where the start ends here, and would go on in QEMU
    - "hazard": what QEMU lets pass and breaks somebody
    - "without effect": a member of an option that nothing here reads
    """
    log = reads.start()
    try:
        told = boot_against(argv, profile, LookingHost(interfaces), as_posted=as_posted)
        log.accept()
    finally:
        reads.stop()
    for text in told.messages:
        yield "message", text
    if told.error is not None:
        modelled = NotModelledError("").desc.removesuffix("''") not in told.error
        yield ("refused" if modelled else "not modelled"), told.error
    yield from (("hazard", text) for text in _hazards(told))
    if told.error is None:
        for member, kind in log.classes().items():
            if kind == reads.NONE:
                yield "without effect", member


def _hazards(told: Explained) -> Iterator[str]:
    vm = told.machine
    if vm is None:
        return
    for entry in vm.journal:
        if entry.kind == "tap-shared":
            yield f"netdev {entry.name}, interface {entry.data['ifname']}: {entry.data['what']}"
        elif entry.kind == "incoming-closed":
            yield f"-incoming fd:{entry.name}: it is not open, and QEMU waits for ever"
        elif entry.kind == "boot" and entry.data.get("skipped") and vm.configuration.daemonize:
            yield "-daemonize with mode cpr-exec: the parent waits for ever"
