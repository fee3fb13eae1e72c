"""The world as one machine sees it, made of real sockets, files and processes.

Everything runs on a `Loop`: a test's, or that of a process of its own. What takes time calls back,
for the model does not await.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from fakeqemu.guard import line_of_bug
from fakeqemu.io.files.access import FileAccess
from fakeqemu.io.files.fdset_open import open_path
from fakeqemu.io.files.passed_fds import check_passed, is_passed
from fakeqemu.io.frontends import make_qtest, serve_gdb
from fakeqemu.io.host_facts import HostFacts
from fakeqemu.io.link import finished
from fakeqemu.io.process.error_prefix import print_text, report, write_lines
from fakeqemu.model.chardev.chardev import Chardev, open_in_model
from fakeqemu.model.host import CprLink, HostMemory, NetListener, Stream, TapInterface
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qmp.frontends import make_monitor

if TYPE_CHECKING:
    from fakeqemu.io.loop import Loop
    from fakeqemu.io.net.sockets import LoopSockets
    from fakeqemu.io.net_taps import TapInterfaces
    from fakeqemu.io.process.threads import ParkedThreads
    from fakeqemu.model.machine import Machine

#: how long a leaving process waits for clients to take what is queued for them, in seconds
FLUSH_TIME = 0.5


class OsHost(FileAccess, HostFacts):
    """A `Host` on an event loop."""

    def __init__(
        self,
        loop: Loop,
        *,
        program: str = "qemu-system-x86_64",
        stderr: TextIO | None = None,
    ) -> None:
        self.loop = loop
        self.program = program
        #: the machine; see `serve`
        self.vm: Machine | None = None
        #: called at SetupPost, when a daemon lets its parent go
        self.on_setup_post: Callable[[], None] | None = None
        #: may refuse a character device before it is opened (StartupError)
        self.on_open_chardev: Callable[[Chardev], None] | None = None
        #: may stand in for a migration channel's stream
        self.wrap_stream: Callable[[Stream], Stream] | None = None
        #: seconds by the wall before the start does anything, and after the end
        self.start_delay = self.exit_delay = 0.0
        #: whether a signal ends the process
        self.heeds_signal: Callable[[int], bool] | None = None
        #: which TAP interfaces other machines have open; None: nobody looks
        self.interfaces: TapInterfaces | None = None
        #: what to do at the end, newest first; run by `close`
        self._cleanups: list[Callable[[], None]] = []
        #: whether the process is this machine's alone: it may become another, have been one
        #: before, and vCPUs have threads
        self.own_process = False
        #: what vCPUs, iothreads and migration run in, once somebody has asked
        self._threads: ParkedThreads | None = None
        self._stderr = stderr
        self._channels: list[Any] = []

    def serve(self, vm: Machine) -> None:
        """Be the host of `vm`; call it before the boot runs.

        Its bugs are a line each on standard error, besides the entry in its journal.
        """
        self.adopt(vm)
        vm.guard.listeners.append(lambda entry: self.warn(line_of_bug(entry)))
        vm.objects.make_monitor = lambda name, **options: make_monitor(
            vm, vm.chardevs[name], **options
        )
        vm.objects.make_qtest = lambda name, log: make_qtest(self, vm, vm.chardevs[name], log)
        vm.objects.serve_gdb = serve_gdb(vm)

    def adopt(self, vm: Machine) -> None:
        """Be the host of `vm`, which another host like this one has served before."""
        self.vm, self.loop = vm, self.loop.guarded(vm.guard)

    def has_obligations(self) -> bool:
        """Whether anything of the host's is open or has to be cleaned up in the end."""
        return bool(self._cleanups or any(not finished(each) for each in self._channels))

    def at_end(self, cleanup: Callable[[], None]) -> None:
        """Call `cleanup` when the host closes, before those asked for earlier."""
        self._cleanups.append(cleanup)

    @cached_property
    def memory(self) -> HostMemory:
        """Guest memory: the kernel's in a process of its own, else none is allocated."""
        from fakeqemu.io.host_memory import KernelMemory, PretendedMemory

        return KernelMemory() if self.own_process else PretendedMemory()

    # -- what the model asks for -------------------------------------------------------------

    def yield_turn(self, call: Callable[[], None]) -> bool:
        """Run `call` when all others have had their turn."""
        self.loop.next_turn(call)
        return True

    def open_chardev(self, chardev: Chardev) -> None:
        """Give `chardev` its transport. Raises QapiError."""
        if self.on_open_chardev is not None:
            self.on_open_chardev(chardev)
        self.open_chardev_log(chardev)
        try:
            self._open_backend(chardev)
        except BaseException:
            _close_log(chardev)
            raise

    def open_chardev_log(self, chardev: Chardev) -> None:
        """Open the file of `logfile=`, if there is one. Raises QapiError."""
        assert self.vm is not None
        if "logfile" in chardev.options:
            from fakeqemu.io.chardev.log import open_log

            named = self.vm.profile.traits.fdset_failures_named
            open_log(chardev, self._open_path, self.vm.process.clock.realtime, steps_named=named)

    def _open_backend(self, chardev: Chardev) -> None:
        if open_in_model(chardev):
            return
        if chardev.backend == "socket":
            from fakeqemu.io.chardev.sockets import open_socket

            check_passed(chardev.address, self.passed_fd)
            open_socket(self.loop, chardev, self.warn)
            return
        from fakeqemu.io.chardev.files import announce_pty, open_file_like

        open_file_like(self.loop, chardev, self._open_path)
        if chardev.backend == "pty" and chardev.location:
            announce_pty(chardev)

    def _open_path(self, path: str, flags: int, mode: int) -> int:
        return open_path(self.vm.fdsets if self.vm is not None else None, path, flags, mode)

    def close_chardev(self, chardev: Chardev) -> None:
        """Take the transport away again, and close the log."""
        _close_log(chardev)
        if chardev.transport is not None:
            chardev.transport.close()
            chardev.transport = None

    def listen(
        self, address: dict[str, object], accept: Callable[[Stream], None], backlog: int = 1
    ) -> NetListener:
        """Listen for migration. Raises QapiError."""
        from fakeqemu.io.migration.channels import SocketListener

        def accepted(stream: Stream) -> None:
            accept(self._keep_stream(stream))

        check_passed(address, self.passed_fd)
        listener = SocketListener(self.loop, address, accepted, backlog)
        self.keep(listener)
        return listener

    def serve_clients(
        self,
        address: dict[str, Any],
        accept: Callable[[Stream, dict[str, Any]], None],
        *,
        leave_file: bool,
    ) -> Sequence[NetListener]:
        """Listen for clients. Raises QapiError."""
        from fakeqemu.io.servers import serve

        servers = serve(self.loop, address, accept, leave_file=leave_file)
        for server in servers:
            self.keep(server)
        return servers

    @property
    def sockets(self) -> LoopSockets:
        """Sockets of network backends."""
        from fakeqemu.io.net.sockets import LoopSockets

        return LoopSockets(self.loop, self.keep, self.passed_fd)

    def adopt_socket(self, fd: int) -> tuple[Stream, dict[str, Any]]:
        """A connected socket that a client handed over. Raises QapiError."""
        from fakeqemu.io.servers import adopt

        return adopt(self.loop, fd)

    def socket_pair(self) -> tuple[Stream, int]:
        """A stream, and the descriptor of its other end."""
        from fakeqemu.io.servers import socket_pair

        stream, fd = socket_pair(self.loop)
        return self._keep_stream(stream), fd

    def connect(
        self, address: dict[str, object], done: Callable[[Stream | None, str], None]
    ) -> None:
        """Open an outgoing migration channel. Raises QapiError for what is refused at once."""
        from fakeqemu.io.migration.channels import OpeningChannel

        def opened(stream: Stream | None, error: str) -> None:
            done(None if stream is None else self._keep_stream(stream), error)

        check_passed(address, self.passed_fd)
        self.keep(OpeningChannel(self.loop, address, opened, self._open_path))

    def connect_now(self, address: dict[str, object], seconds: float, **more: float) -> Stream:
        """A connection to a socket, for which everything waits. Raises QapiError."""
        from fakeqemu.io.migration.channels import connect_channel_now as connect

        check_passed(address, self.passed_fd)
        return self._keep_stream(connect(self.loop, address, seconds, **more))

    def connect_to_client(self, address: dict[str, Any]) -> tuple[Stream, dict[str, Any]]:
        """A connection to who is to be served, for which everything waits. Raises QapiError."""
        from fakeqemu.io.connect import connect_now
        from fakeqemu.io.servers import stream_of

        check_passed(address, self.passed_fd)
        stream, peer = stream_of(self.loop, connect_now(address))
        return self._keep_stream(stream), peer

    def open_incoming(self, address: dict[str, object]) -> Stream:
        """Open an incoming channel that needs no listening. Raises QapiError."""
        from fakeqemu.io.migration.channels import open_local

        opener = self._open_path
        return self._keep_stream(open_local(self.loop, address, outgoing=False, opener=opener))

    def close_fd(self, fd: int) -> None:
        """Close a descriptor that a client handed over."""
        with contextlib.suppress(OSError):
            os.close(fd)

    def open_tap(self, ifname: str, *, multi_queue: bool, given: bool) -> TapInterface:
        """Open a TAP interface of the host. Raises QapiError."""
        if self.interfaces is None:
            return TapInterface()
        return self.interfaces.open(ifname, multi_queue=multi_queue, given=given)

    def send_cpr_state(
        self,
        address: dict[str, object],
        pieces: Sequence[tuple[bytes, int | None]],
        hung_up: Callable[[], None],
    ) -> CprLink:
        """Send CPR state. Raises QapiError if nothing listens."""
        from fakeqemu.io.migration.cpr import CprSender

        sender = CprSender(self.loop, address, pieces, hung_up)
        self.keep(sender)
        return sender

    def create_memory(self, name: str, size: int) -> int:
        """Memory as a file descriptor. Raises QapiError."""
        from fakeqemu.io.migration.cpr import create_memory

        fd = create_memory(name, size)
        self._cleanups.append(lambda: self.close_fd(fd))
        return fd

    def read_memory(self, fd: int) -> Iterator[tuple[int, bytes]]:
        """What is in memory."""
        from fakeqemu.io.migration.cpr import read_memory

        return read_memory(fd)

    def write_memory(self, fd: int, offset: int, data: bytes) -> None:
        """Write into memory."""
        os.pwrite(fd, data, offset)

    def passed_fd(self, fd: int) -> int:
        """In a process of its own: what came through exec or is in an fdset; else any."""
        sets = () if self.vm is None else self.vm.fdsets
        return fd if not self.own_process or is_passed(fd, sets) else -1

    def fd_size(self, fd: int) -> int | None:
        """Bytes in a file or memory."""
        try:
            return os.fstat(fd).st_size
        except OSError:
            return None

    def replace_process(self, args: list[str], state: bytes, fds: Sequence[int]) -> None:
        """Become the command `args`. Raises QapiError when it cannot be run."""
        if not self.own_process:
            raise QapiError(f"execvp {args[0]} failed: Operation not permitted")
        from fakeqemu.io.migration.cpr import replace_process

        replace_process(args, state, fds)

    def left_by_exec(self) -> bytes | None:
        """CPR state that the process which executed this one has left; None if there is none.

        Raises StartupError for an environment that names no descriptor.
        """
        if not self.own_process or "QEMU_CPR_EXEC_STATE" not in os.environ:
            return None
        from fakeqemu.io.migration.cpr import left_by_exec

        return left_by_exec()

    def monotonic_thread_id(self) -> int:
        """This process's main thread, as the kernel numbers it."""
        return os.getpid()

    def thread_id(self, name: str, number: int) -> int:
        """A thread of its own in a process of its own, else counted from the main one's."""
        if not self.own_process:
            return os.getpid() + number
        if self._threads is None:
            from fakeqemu.io.process.threads import ParkedThreads

            self._threads = ParkedThreads()
        return self._threads.id_of(name)

    def end_thread(self, name: str) -> None:
        """Let the thread go."""
        if self._threads is not None:
            self._threads.end(name)

    def warn(self, text: str) -> None:
        """One message on standard error, after the program's name."""
        report(self.program, text, self.vm, self._stderr)

    def say(self, text: str) -> None:
        """Lines on standard error as they are."""
        write_lines(text, self._stderr)

    def print(self, text: str) -> None:
        """Lines on standard output, at once."""
        print_text(f"{text}\n")

    # -- the end ------------------------------------------------------------------------------

    def close(self, *, keep_files: bool = False) -> None:
        """Give everything back: clients hear what is queued, then the end.

        `keep_files` leaves socket files, as QEMU does when it fails to start. A signal that ends
        the process leaves them and the pid file.
        """
        keep_files = keep_files or self.killed
        chardevs = list(self.vm.chardevs.values()) if self.vm is not None else []
        for chardev in () if self.killed else chardevs:
            if (flush := getattr(chardev.transport, "flush", None)) is not None:
                flush(FLUSH_TIME)
        for chardev in chardevs:
            if chardev.transport is not None:
                if keep_files and (keep := getattr(chardev.transport, "keep_file", None)):
                    keep()
                chardev.transport.close()
                chardev.transport = None
            _close_log(chardev)
        if self.vm is not None and not keep_files:
            self.vm.net.close()
        for channel in self._channels:
            if (flush := getattr(channel, "flush", None)) is not None:
                flush(FLUSH_TIME)
            getattr(channel, "abort", channel.close)()
        self._channels.clear()
        self.close_files()
        while self._cleanups:
            self._cleanups.pop()()

    # -- inside ------------------------------------------------------------------------------

    @property
    def killed(self) -> bool:
        """Whether a signal has ended it that it does not catch."""
        return self.vm is not None and (self.vm.process.exit_code or 0) < 0

    def _keep_stream(self, stream: Stream) -> Stream:
        self.keep(stream)
        return stream if self.wrap_stream is None else self.wrap_stream(stream)

    def keep(self, channel: Any) -> None:
        """Close `channel` in the end, if that is not done by then."""
        self._channels = [kept for kept in self._channels if not finished(kept)]
        self._channels.append(channel)


def _close_log(chardev: Chardev) -> None:
    if chardev.log is not None:
        from fakeqemu.io.chardev.log import close_log

        close_log(chardev)
