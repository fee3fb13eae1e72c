"""What the host has: processors, NUMA nodes, KVM; and what a descriptor of it is."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat

from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

#: ioctl of a TAP device that tells its name and flags, in a struct ifreq; <linux/if_tun.h>
_TUNGETIFF = 0x800454D2
_IFREQ_SIZE = 40
#: ioctl of a vhost device; <linux/vhost.h>
_VHOST_GET_FEATURES = 0x8008AF00
#: the protocol number of L2TP over IP
_L2TP = 115
_NODES = "/sys/devices/system/node"


class HostFacts:
    """The part of an `OsHost` that looks at descriptors and the machine, or makes descriptors."""

    def create_event(self) -> int:
        """An eventfd. Raises NotModelledError on a host that has none."""
        if not hasattr(os, "eventfd"):
            raise NotModelledError("eventfds on this host")
        return os.eventfd(0, os.EFD_CLOEXEC)

    def dup_fd(self, fd: int) -> int:
        """A second descriptor for the same file. Raises QapiError."""
        try:
            return os.dup(fd)
        except OSError as error:
            raise QapiError(f"Could not dup FD {fd}: {error.strerror}") from None

    def processors(self, node: int | None = None) -> frozenset[int]:
        """Those that are online; those of `node`, if one is named, none if it is not there.

        A host that tells of no nodes has all of them in node 0, as libnuma sees it.
        """
        if node is None:
            return frozenset(range(os.sysconf("SC_NPROCESSORS_ONLN")))
        from pathlib import Path

        nodes = Path(_NODES)
        if node == 0 and not nodes.is_dir():
            return frozenset(range(os.sysconf("SC_NPROCESSORS_ONLN")))
        try:
            text = (nodes / f"node{node}" / "cpulist").read_text("ascii").strip()
        except OSError:
            return frozenset()
        ranges = (each.split("-") for each in text.split(",") if each)
        return frozenset(cpu for ends in ranges for cpu in range(int(ends[0]), int(ends[-1]) + 1))

    def random_uuid(self) -> str:
        """A new UUID."""
        import uuid

        return str(uuid.uuid4())

    def kvm_usable(self) -> bool:
        """Whether `/dev/kvm` can be opened."""
        try:
            fd = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        usable = stat.S_ISCHR(os.fstat(fd).st_mode)
        os.close(fd)
        return usable

    def fd_kind(self, fd: int) -> str:
        """What `fd` is: "socket", "pipe", "file" (anything else) or "closed"."""
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            return "closed"
        if stat.S_ISSOCK(mode):
            return "socket"
        return "pipe" if stat.S_ISFIFO(mode) else "file"

    def is_unix_socket(self, fd: int) -> bool:
        """Whether `fd` is a UNIX domain socket. See migration/fd.c: migration_fd_valid()."""
        try:
            with socket.socket(fileno=os.dup(fd)) as sock:
                return sock.family == socket.AF_UNIX
        except OSError:
            return False

    def tap_error(self, fd: int) -> str | None:
        """Why `fd` is no open TAP device, in the system's words; None if it is one."""
        try:
            fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ_SIZE))
        except OSError as error:
            return error.strerror
        return None

    def vhost_error(self, fd: int) -> str | None:
        """Why `fd` is no vhost device, in the system's words; None if it is one."""
        try:
            fcntl.ioctl(fd, _VHOST_GET_FEATURES, bytes(8))
        except OSError as error:
            return error.strerror
        return None

    def is_terminal(self, fd: int) -> bool:
        """Whether `fd` is a terminal."""
        return os.isatty(fd)

    def fd_error(self, fd: int) -> str | None:
        """Why a descriptor cannot be used, in the system's words; None if it can."""
        try:
            os.fstat(fd)
        except OSError as error:
            return error.strerror
        return None

    def file_error(self, path: str) -> str | None:
        """Why a file cannot be read, in the system's words; None if it can."""
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            return error.strerror
        return None

    def open_error(self, path: str) -> str | None:
        """Why a file cannot be opened to read and write, in the system's words."""
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return error.strerror
        return None

    def name_error(self, name: str, service: str | None, *, ipv6: bool) -> str | None:
        """Why a name has no address, of a UDP service or for L2TP. See getaddrinfo(3)."""
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        kind, protocol = (socket.SOCK_RAW, _L2TP) if service is None else (socket.SOCK_DGRAM, 0)
        try:
            socket.getaddrinfo(
                c_bytes(name), None if service is None else c_bytes(service), family, kind, protocol
            )
        except socket.gaierror as error:
            return error.strerror
        return None

    def path_error(self, path: str) -> str | None:
        """Why nothing is at a path, in the system's words; None if something is. See stat(2)."""
        try:
            os.stat(path)  # noqa: PTH116 - to pathlib an empty name is a folder
        except (OSError, ValueError) as error:
            return os.strerror(getattr(error, "errno", None) or errno.ENOENT)
        return None

    def read_link(self, path: str) -> str:
        """Where a symbolic link leads. Raises OSError."""
        return os.readlink(path)  # noqa: PTH115

    def real_path(self, path: str) -> str:
        """A path without symbolic links, as far as there is one."""
        return os.path.realpath(path)

    def list_folder(self, path: str) -> list[str]:
        """Names in a folder. Raises OSError."""
        return os.listdir(path)  # noqa: PTH208

    def access_error(self, path: str) -> str | None:
        """Why a file must not be read or is not there, in the system's words: access(2)."""
        try:
            os.stat(path)  # noqa: PTH116 - pathlib takes long to import
        except OSError as error:
            return error.strerror
        return None if os.access(path, os.R_OK) else os.strerror(errno.EACCES)
