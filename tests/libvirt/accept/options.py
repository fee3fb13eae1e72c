"""What an acceptance run can be told."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Options(argparse.Namespace):
    """The command line, parsed."""

    emulator: Path = Path("/usr/bin/qemu-system-x86_64")
    machine: str = "q35"
    libvirtd: str = "/usr/sbin/libvirtd"
    virsh: str = "/usr/bin/virsh"
    #: how the daemons are kept apart from the host: namespace or session
    privacy: str = "namespace"
    chroot: Path | None = None
    kvm: bool = False
    qemu_user: str = "root"
    virttype: str = "qemu"
    tap: bool = False
    direct: bool = False
    timeout_scale: float = 1.0
    max_time: float = 3600
    guest_shutdown_hmp: str = "o /h 0x604 0x2000"
    guest_reset_hmp: str = "o /b 0xcf9 6"
    guest_panic_hmp: str = "o /b 0x505 1"
    scratch: Path | None = None
    record: Path | None = None
    json: Path | None = None
    keep: bool = False
    list_steps: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        self.bind: list[str] = []
        self.env: list[str] = []
        self.domain_env: list[str] = []
        self.domain_arg: list[str] = []
        self.flow: list[str] = []
        self.only: list[str] = []
        self.skip: list[str] = []


def parse(argv: list[str], description: str) -> Options:
    """Parse a command line; argparse ends the process if it is wrong."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("--emulator", type=Path)
    add("--machine", help="machine type (q35, pc, pc-q35-7.2 ...)")
    add("--libvirtd")
    add("--virsh")
    add("--privacy", choices=("namespace", "session"),
        help="namespace: system daemons in private mount namespaces (root); session: session "
        "daemons with private XDG directories (needs no privilege)")
    add("--chroot", type=Path, help="run libvirtd and emulator inside this root directory")
    add("--bind", action="append", help="with --chroot: also show this host path inside")
    add("--kvm", action="store_true", help="leave /dev/kvm visible to libvirtd")
    add("--qemu-user", help="user the emulator runs as: root (default) or libvirt-qemu")
    add("--virttype", choices=("qemu", "kvm"), help="domain type")
    add("--tap", action="store_true",
        help="also run the tap.* steps, which make tap devices (run it under 'unshare -n')")
    add("--direct", action="store_true",
        help="use --emulator's own path in the domain XML, not a link in the scratch directory")
    add("--domain-env", action="append", help="NAME=VALUE for the emulator of domains")
    add("--domain-arg", action="append", help="an extra emulator argument of domains")
    add("--env", action="append", help="NAME=VALUE for libvirtd")
    add("--flow", action="append", help="only the steps of this flow (repeatable)")
    add("--only", action="append", help="only steps of this glob or group (repeatable)")
    add("--skip", action="append", help="not the steps of this glob or group (repeatable)")
    add("--list", dest="list_steps", action="store_true", help="list the steps, each with its flow")
    add("--scratch", type=Path, help="an empty or former scratch directory, which is kept")
    add("--keep", action="store_true", help="keep the scratch directory")
    add("--record", type=Path, help="write each step's conversation and argv into this directory")
    add("--json", type=Path, help="write the results into this file")
    add("--timeout-scale", type=float, help="multiply every time-out")
    add("--max-time", type=float, help="seconds for the whole run (0: no limit)")
    add("--guest-shutdown-hmp")
    add("--guest-reset-hmp")
    add("--guest-panic-hmp")
    add("-v", "--verbose", action="store_true")
    options = parser.parse_args(argv, Options())
    options.emulator = options.emulator.absolute()
    options.only = [_glob(each) for each in options.only]
    options.skip = [_glob(each) for each in options.skip]
    return options


def _glob(pattern: str) -> str:
    return pattern if "." in pattern or "*" in pattern else pattern + ".*"
