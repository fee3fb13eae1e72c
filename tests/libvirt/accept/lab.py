"""What the steps work with: one or two libvirtd, an emulator, a scratch directory."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from accept import transcript
from accept.daemon import Daemon
from accept.domainxml import Domain, Surroundings, rich
from accept.errors import Failed
from accept.images import make_image
from accept.launch import SYSTEM_PATH, Launch, NamespaceLaunch, SessionLaunch
from accept.options import Options

T = TypeVar("T")

EMULATOR = "qemu-system-x86_64"


class Lab:
    """Two daemons, `near` and `far`; the far one is started when first needed."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.temporary = options.scratch is None
        self.scratch = self._make_scratch(options.scratch)
        self.images = self.scratch / "images"
        self.sockets = self.scratch / "sockets"
        self.starts = self.scratch / "starts"
        #: the first on libvirtd's PATH and so its default
        self.default_emulator = self.scratch / "bin" / EMULATOR
        for path in (self.images, self.sockets, self.starts, self.default_emulator.parent):
            path.mkdir()
            path.chmod(0o1777)
        self._make_emulator()
        direct = options.direct and not options.record
        self.around = Surroundings(
            emulator=options.emulator if direct else self.default_emulator,
            machine=options.machine,
            virttype=options.virttype,
            arguments=options.domain_arg,
            environment=options.domain_env,
        )
        self.near = self._daemon("A", "11111111-1111-4111-8111-111111111111")
        self.far = self._daemon("B", "22222222-2222-4222-8222-222222222222")
        self.daemons = (self.near, self.far)

    @staticmethod
    def _make_scratch(wanted: Path | None) -> Path:
        if wanted is None:
            made = Path(tempfile.mkdtemp(prefix="accept-", dir="/tmp"))
        else:
            made, mark = wanted.absolute(), wanted / ".accept"
            if mark.exists():
                shutil.rmtree(made)
            made.mkdir(parents=True, exist_ok=True)
            if list(made.iterdir()):
                raise SystemExit(f"{made} is neither empty nor a former scratch directory")
            mark.touch()
        made.chmod(0o755)
        return made

    def _make_emulator(self) -> None:
        options = self.options
        if options.record:
            script = transcript.RECORDER.format(
                python="/usr/bin/python3", emulator=str(options.emulator), directory=self.starts
            )
            self.default_emulator.write_text(script)
            self.default_emulator.chmod(0o755)
        else:
            self.default_emulator.symlink_to(options.emulator)

    def _daemon(self, name: str, host_uuid: str) -> Daemon:
        options = self.options
        directory = self.scratch / name
        # ports of its own, so that several runs can share a machine
        first_port = 20000 + (os.getpid() * 40 + (20 if name == "B" else 0)) % 12000
        launch: Launch
        if options.privacy == "session":
            launch = SessionLaunch(directory, options, host_uuid, first_port)
        else:
            launch = NamespaceLaunch(directory, options, host_uuid, first_port, self.scratch)
        environment = {"PATH": f"{self.default_emulator.parent}:{SYSTEM_PATH}", "LANG": "C"}
        for each in options.env:
            variable, _, value = each.partition("=")
            environment[variable] = value
        return Daemon(
            name,
            directory,
            launch,
            virsh=options.virsh,
            environment=environment,
            scale=options.timeout_scale,
        )

    def need_far(self) -> Daemon:
        """The second daemon, started if it is not running."""
        if not self.far.alive:
            self.far.start()
            self.far.virsh("version", timeout=120)
            self.far.start_events()
        return self.far

    @property
    def emulator(self) -> Path:
        """The path that domains name."""
        return self.around.emulator

    def until(self, ready: Callable[[], T], timeout: float, what: str) -> T:
        return self.near.until(ready, timeout, what)

    def image(self, name: str, size: str = "64M", form: str = "qcow2") -> Path:
        """A new empty disk image."""
        return make_image(self.images / name, size, form)

    def file(self, text: str) -> Path:
        """A file with this text (virsh takes XML in files)."""
        path = self.scratch / f"x-{uuid4().hex[:8]}.xml"
        path.write_text(text)
        return path

    def rich_devices(self, name: str) -> str:
        """XML of one of everything a desktop domain has."""
        return rich(self.images / f"{name}-serial1.log", _free_port(6000, 9900))

    def define(self, domain: Domain) -> Path:
        """Define a domain anew with the near daemon; the file with its XML."""
        self.near.gone(domain.name)
        path = self.file(domain.xml(self.around))
        self.near.virsh("define", path)
        return path

    def running(self, name: str, **more: Any) -> None:
        """Make sure that a domain runs; what Domain takes counts only if there is none yet."""
        state = self.near.state(name)
        if state.startswith("running"):
            return
        if state.startswith("paused"):
            self.near.virsh("resume", name)
            return
        if state == "absent":
            more.setdefault("disk", self.images / f"{name}.qcow2")
            if not more["disk"].exists():
                self.image(more["disk"].name)
            self.define(Domain(name, **more))
        self.near.virsh("start", name, timeout=60)
        self.near.wait_state(name, "running")

    def attach(self, domain: str, xml: str) -> None:
        """Plug a device into a running domain."""
        self.near.virsh("attach-device", domain, self.file(xml), "--live")

    def detach(self, domain: str, xml: str, still_there: Callable[[], bool]) -> None:
        """Unplug a device. PCI devices of a guest without an OS go only when it is reset."""
        mark = self.near.mark()
        self.near.virsh("detach-device", domain, self.file(xml), "--live", timeout=40)
        what = f"a device of {domain} to go"
        for patience in (2, 6):
            try:
                self.until(lambda: not still_there(), patience, what)
                break
            except Failed:
                self.near.virsh("reset", domain)
        else:
            self.until(lambda: not still_there(), 6, what)
        self.near.wait_event(rf"event 'device-removed' for domain '{domain}", mark)

    def device(self, domain: str, path: str, wanted: Callable[[ET.Element], bool]) -> ET.Element:
        """The element of a device in the domain's XML."""
        for element in self.near.dumpxml(domain).findall(path):
            if wanted(element):
                return element
        raise Failed(f"{domain} has no such device")

    def targets(self, domain: str) -> set[str | None]:
        """Names of a domain's disks, as vda."""
        found = self.near.dumpxml(domain).findall("devices/disk/target")
        return {target.get("dev") for target in found}

    def macs(self, domain: str) -> set[str | None]:
        """Addresses of a domain's NICs."""
        found = self.near.dumpxml(domain).findall("devices/interface/mac")
        return {mac.get("address") for mac in found}

    def check_in_qom(self, domain: str, element: ET.Element) -> None:
        """A device which libvirt believes to be there must be there."""
        alias = element.find("alias")
        name = None if alias is None else alias.get("name")
        listed = self.near.qmp(domain, "qom-list", {"path": "/machine/peripheral"})
        if name not in {each["name"] for each in listed}:
            raise Failed(f"libvirt attached {name}, but there is no /machine/peripheral/{name}")


def _free_port(low: int, high: int) -> int:
    for attempt in range(200):
        port = low + (os.getpid() * 7 + attempt * 13 + int(time.time() * 1000)) % (high - low)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Failed("no free TCP port")
