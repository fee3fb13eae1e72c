"""How a libvirtd is kept apart from the host: two ways, and when each can be had.

A system daemon has fixed paths; in a mount namespace of its own they lead into the scratch
directory. A session daemon takes its paths from XDG variables and so needs no namespace, only
a user who is not root.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Protocol

from accept.options import Options

LOG_FILTERS = (
    "1:qemu.qemu_monitor 1:qemu.qemu_process 1:util.command "
    "2:qemu.qemu_migration 3:qemu 3:util 3:rpc 3:event 3:object"
)
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: who a session daemon runs as when the run itself is root's
NOBODY = 65534


class Launch(Protocol):
    """One libvirtd's place in the world."""

    #: where it says it listens
    uri: str
    socket: Path
    log: Path
    #: NAME.pid of every domain
    pidfiles: Path
    #: what the emulators wrote on stdout and stderr
    emulator_logs: Path
    #: cached capabilities
    cache: Path
    #: None: as who we are
    user: int | None

    def command(self) -> list[str]: ...

    def environment(self) -> dict[str, str]: ...


def _daemon_conf(host_uuid: str, log: Path, more: str = "") -> str:
    return f"""{more}host_uuid = "{host_uuid}"
auth_unix_rw = "none"
log_level = 3
log_filters = "{LOG_FILTERS}"
log_outputs = "1:file:{log}"
"""


def _qemu_conf(first_port: int) -> str:
    return f"""remember_owner = 0
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
seccomp_sandbox = 0
migration_port_min = {first_port}
migration_port_max = {first_port + 19}
"""


class NamespaceLaunch:
    """A system daemon whose fixed paths lead into the scratch directory; for root."""

    user: int | None = None

    def __init__(
        self, directory: Path, options: Options, host_uuid: str, first_port: int, shown: Path
    ) -> None:
        self._directory = directory
        self._options = options
        self._root = str(options.chroot or "").rstrip("/")
        #: what a chroot is to see of the host
        self._shown = [str(shown), *options.bind]
        self.socket = directory / "run" / "libvirt-sock"
        self.uri = f"qemu+unix:///system?socket={self.socket}"
        self.log = directory / "log" / "libvirtd.log"
        self.pidfiles = directory / "run" / "qemu"
        self.emulator_logs = directory / "log" / "qemu"
        self.cache = directory / "cache" / "qemu" / "capabilities"
        for name in ("etc", "run", "lib", "cache", "log"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        self._write_users()
        more = 'unix_sock_dir = "/run/libvirt"\nauth_unix_ro = "none"\n'
        more += 'unix_sock_rw_perms = "0700"\n'
        (directory / "etc" / "libvirtd.conf").write_text(
            _daemon_conf(host_uuid, Path("/var/log/libvirt/libvirtd.log"), more)
        )
        user = options.qemu_user
        (directory / "etc" / "qemu.conf").write_text(
            f'user = "{user}"\ngroup = "{user}"\n'
            f"dynamic_ownership = {int(user != 'root')}\n"
            'auto_dump_path = "/var/lib/libvirt/qemu/dump"\n' + _qemu_conf(first_port)
        )

    def _write_users(self) -> None:
        """Debian's libvirt insists on its user even where qemu.conf names another one."""
        wanted = {
            "passwd": ["libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin"],
            "group": ["libvirt-qemu:x:64055:", "kvm:x:64056:", "libvirt:x:64057:"],
        }
        for name, lines in wanted.items():
            try:
                text = Path(f"{self._root}/etc/{name}").read_text()
            except OSError:
                text = "root:x:0:0:root:/root:/bin/sh\n" if name == "passwd" else "root:x:0:\n"
            for line in lines:
                if not re.search(r"(?m)^" + line.split(":", maxsplit=1)[0] + ":", text):
                    text = text.rstrip("\n") + "\n" + line + "\n"
            (self._directory / name).write_text(text)

    def environment(self) -> dict[str, str]:
        return {"HOME": "/root", "USER": "root", "LOGNAME": "root"}

    def command(self) -> list[str]:
        script = ["set -e", *self._chroot_mounts(), *self._private_paths()]
        if not self._options.kvm:
            script.append(self._hide_kvm())
        run = ["chroot", self._root] if self._root else []
        run += [self._options.libvirtd, "-f", "/etc/libvirt/libvirtd.conf"]
        run += ["-p", "/run/libvirt/libvirtd-accept.pid"]
        script += ["cd /", f"exec {shlex.join(run)}"]
        return ["unshare", "-m", "--propagation", "private", "sh", "-c", "\n".join(script)]

    def _inside(self, path: str) -> str:
        return shlex.quote(self._root + path)

    def _chroot_mounts(self) -> list[str]:
        if not self._root:
            return []
        lines = [f"mount --rbind {self._inside('')} {self._inside('')}"]
        for name, proof in (("proc", "self/status"), ("sys", "kernel"), ("dev", "pts/ptmx")):
            there = self._inside(f"/{name}")
            lines.append(f"[ -e {there}/{proof} ] || mount --rbind /{name} {there}")
        for path in self._shown:
            here, there = shlex.quote(path), self._inside(path)
            if Path(path).is_dir():
                lines.append(f"mkdir -p {there} && mount --rbind {here} {there}")
            else:
                above = self._inside(str(Path(path).parent))
                lines.append(f"mkdir -p {above} && touch {there} && mount --bind {here} {there}")
        return lines

    def _private_paths(self) -> list[str]:
        lines = []
        for name, path in (
            ("passwd", "/etc/passwd"),
            ("group", "/etc/group"),
            ("etc", "/etc/libvirt"),
            ("run", "/run/libvirt"),
            ("lib", "/var/lib/libvirt"),
            ("cache", "/var/cache/libvirt"),
            ("log", "/var/log/libvirt"),
        ):
            there = self._inside(path)
            if name in ("passwd", "group"):
                lines.append(f"[ -e {there} ] || touch {there}")
            else:
                lines.append(f"mkdir -p {there}")
            lines.append(f"mount --bind {shlex.quote(str(self._directory / name))} {there}")
        return lines

    def _hide_kvm(self) -> str:
        """Libvirt probes without end where /dev/kvm and the emulator do not say the same."""
        private = self._directory / "dev"
        private.mkdir(exist_ok=True)
        new, dev = shlex.quote(str(private)), self._inside("/dev")
        return f"""if [ -e {dev}/kvm ]; then
mount -t tmpfs -o mode=755 tmpfs {new}
for n in null zero full random urandom tty userfaultfd; do
  [ -e /dev/$n ] && {{ touch {new}/$n; mount --bind /dev/$n {new}/$n; }}; done
for n in pts shm net; do
  [ -e /dev/$n ] && {{ mkdir -p {new}/$n; mount --rbind /dev/$n {new}/$n; }}; done
mknod -m 666 {new}/ptmx c 5 2 || ln -s pts/ptmx {new}/ptmx
ln -s /proc/self/fd {new}/fd
for n in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${{n%:*}} {new}/${{n#*:}}; done
mount --rbind {new} {dev}
fi"""


class SessionLaunch:
    """A session daemon with XDG directories of its own; needs no privilege."""

    def __init__(
        self, directory: Path, options: Options, host_uuid: str, first_port: int
    ) -> None:
        self._options = options
        self.user = NOBODY if os.geteuid() == 0 else None
        self._run = directory / "run"
        self._config = directory / "config"
        self._cache = directory / "cache"
        self.socket = self._run / "libvirt" / "libvirt-sock"
        self.uri = f"qemu+unix:///session?socket={self.socket}"
        self.log = directory / "log" / "libvirtd.log"
        self.pidfiles = self._run / "libvirt" / "qemu" / "run"
        self.emulator_logs = self._cache / "libvirt" / "qemu" / "log"
        self.cache = self._cache / "libvirt" / "qemu" / "capabilities"
        settings = self._config / "libvirt"
        for path in (self._run, settings, self._cache, directory / "log"):
            path.mkdir(parents=True, exist_ok=True)
        (settings / "libvirtd.conf").write_text(_daemon_conf(host_uuid, self.log))
        (settings / "qemu.conf").write_text(_qemu_conf(first_port))
        if self.user is not None:
            for path in (directory, *directory.rglob("*")):
                os.chown(path, self.user, self.user)

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self._config),
            "XDG_RUNTIME_DIR": str(self._run),
            "XDG_CONFIG_HOME": str(self._config),
            "XDG_CACHE_HOME": str(self._cache),
            "XDG_DATA_HOME": str(self._config),
        }

    def command(self) -> list[str]:
        settings = self._config / "libvirt" / "libvirtd.conf"
        return [self._options.libvirtd, "-f", str(settings), "-p", str(self._run / "accept.pid")]
