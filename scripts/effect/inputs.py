"""Random input that the schema allows, from one seed: commands, block nodes, objects, devices."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from effect.drive import REFUSALS, Driven, boot, directory, make_images
from fakeqemu.profile import Profile
from fakeqemu.qapi.schema import (
    AlternateType,
    ArrayType,
    BuiltinType,
    EnumType,
    Member,
    ObjectType,
    Type,
)

#: how deep objects nest before only what must be there is given
_DEEP = 3
#: commands between two starts of the machine
_LIFE = 60

_COMMON = ("-S", "-display", "none", "-nodefaults", "-m", "64,maxmem=1G,slots=4")
_BACKENDS = (
    "-blockdev", "null-co,node-name=n0,size=1048576,read-zeroes=on",
    "-blockdev", "null-co,node-name=n1,size=1048576", "-blockdev", "null-co,node-name=n2",
    "-blockdev", "null-co,node-name=n3,size=1048576,read-only=on",
    "-blockdev", "driver=qcow2,node-name=q0,file.driver=file,file.filename=d0.qcow2",
    "-blockdev", "driver=raw,node-name=r0,file.driver=file,file.filename=d1.raw",
    "-chardev", "null,id=ch0", "-chardev", "ringbuf,id=ch1,size=1024",
    "-object", "memory-backend-ram,id=mem0,size=1M", "-object", "iothread,id=io0",
    "-object", "secret,id=sec0,data=abc", "-object", "throttle-group,id=tg0",
    "-object", "rng-builtin,id=rng0", "-audiodev", "none,id=aud0",
    "-netdev", "hubport,hubid=0,id=net1",
)  # fmt: skip
MACHINES = {
    "q35": (
        "-machine", "q35", *_COMMON, *_BACKENDS,
        "-device", "virtio-scsi-pci,id=scsi0", "-device", "scsi-hd,drive=q0,id=hd0",
        "-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,id=nic0",
        "-device", "pcie-root-port,id=rp0,chassis=1,slot=1",
        "-device", "virtio-balloon-pci,id=bal0", "-device", "virtio-serial-pci,id=ser0",
        "-device", "qemu-xhci,id=usb0", "-device", "intel-hda,id=hda0",
        "-vnc", "none", "-smp", "2,maxcpus=4",
    ),
    "pc": (
        "-machine", "pc", *_COMMON, *_BACKENDS,
        "-drive", "file=d2.raw,format=raw,if=none,id=drv0", "-device", "ide-hd,drive=drv0,id=hd0",
        "-netdev", "hubport,id=net0,hubid=0", "-device", "e1000,netdev=net0,id=nic0",
        "-device", "virtio-balloon-pci,id=bal0", "-device", "virtio-scsi-pci,id=scsi0",
    ),
}  # fmt: skip

_NODES = ("n0", "n1", "n2", "n3", "q0", "r0")
_IDS = ("hd0", "nic0", "mem0", "io0", "ch0", "net0", "new0", "new1", "drv0", "bal0")
_FILES = ("d0.qcow2", "d1.raw", "new.raw", "out")
#: member -> texts that may fit
_TEXTS: dict[str, tuple[str, ...]] = {
    "node-name": _NODES, "node": _NODES, "device": (*_IDS, *_NODES), "id": _IDS,
    "target": _NODES, "filename": _FILES, "file": _FILES, "snapshot-file": ("new.qcow2",),
    "path": ("/machine", "/objects/mem0", "/objects/io0", "hd0", "sock0"),
    "qom-path": ("/machine/peripheral/hd0",), "property": ("type", "size", "poll-max-ns"),
    "typename": ("virtio-net-pci", "memory-backend-ram"), "implements": ("device", "object"),
    "driver": ("virtio-rng-pci", "usb-tablet", "virtio-blk-pci"),
    "uri": ("file:mig", "unix:sock1"), "protocol": ("file:dump",), "job-id": ("job0", "job1"),
    "command-line": ("info status", "info block"), "name": ("net0", "nic0", "bm0", "new0"),
    "chardev": ("ch0", "ch1"), "netdev": ("net0", "net1"), "bitmap": ("bm0",),
    "overlay": _NODES, "snapshot": _NODES, "parent": _NODES, "export": _NODES,
    "mem-path": ("shm0",), "memdev": ("mem0",), "host": ("127.0.0.1",), "port": ("0",),
    "group": ("tg0",), "throttle-group": ("tg0",), "limits": ("tg0",), "secret": ("sec0",),
    "key-secret": ("sec0",), "base": _FILES, "top": _FILES, "data": ("YWJj",),
    # a number would be one of this process's own descriptors
    "fd": ("nofd",), "fds": ("nofd",), "str": ("nofd",), "fdname": ("nofd",),
    "vhostfd": ("nofd",), "vhostfds": ("nofd",), "connection-id": ("0",),
    "size": ("1M",), "backing-file": _FILES, "format": ("raw", "qcow2"),
}  # fmt: skip
_OTHER_TEXTS = ("a", "x", "on", "1", "new0")
_NUMBERS = (0, 1, 2, 4, 512, 4096, 65536, 1 << 20)


class Generator:
    """Values of the schema's types."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def value(self, type: Type, member: str, depth: int, *, more: float) -> Any:
        """A value of `type`; optional members are given with probability `more`."""
        if isinstance(type, BuiltinType):
            return self._scalar(type, member)
        if isinstance(type, EnumType):
            return self._random.choice(type.values)
        if isinstance(type, ArrayType):
            count = self._random.choice((1, 1, 2)) if depth < _DEEP else 0
            return [self.value(type.element, member, depth + 1, more=more) for _ in range(count)]
        if isinstance(type, AlternateType):
            kinds = type.members
            if depth >= _DEEP:
                plain = [each for each in kinds if not isinstance(each, ObjectType)]
                kinds = tuple(plain) or kinds
            chosen = self._random.choice(kinds)
            if isinstance(chosen, BuiltinType) and chosen.json_type == "string":
                return self._random.choice(_NODES)
            return self.value(chosen, member, depth, more=more)
        return self.object(type, depth, more=more)

    def object(
        self, type: ObjectType, depth: int = 0, *, more: float, tag: str | None = None
    ) -> dict[str, Any]:
        """An object; `tag` chooses the variant."""
        made: dict[str, Any] = {}
        for member in type.members:
            if member.name == type.tag:
                choices = [c for c in self._tags(member) if c in type.variants or depth < 1]
                made[member.name] = tag or self._random.choice(choices or self._tags(member))
            elif not member.optional or (depth <= _DEEP and self._random.random() < more):
                made[member.name] = self.value(member.type, member.name, depth + 1, more=more)
        variant = type.variant(made[type.tag]) if type.tag is not None else None
        if variant is not None:
            made |= self.object(variant, depth, more=more)
        return made

    @staticmethod
    def _tags(member: Member) -> list[str]:
        kind = member.type
        return list(kind.values) if isinstance(kind, EnumType) else []

    def _scalar(self, type: BuiltinType, member: str) -> Any:
        choose = self._random.choice
        if type.json_type == "string":
            return choose(_TEXTS.get(member, _OTHER_TEXTS))
        if type.json_type == "int":
            return choose(_NUMBERS[:5] if type.name.endswith("8") else _NUMBERS)
        if type.json_type == "boolean":
            return choose((True, False))
        if type.json_type == "number":
            return choose((0.5, 1, 2))
        return None if type.json_type == "null" else choose((True, 1, "a"))


class Fresh:
    """A machine of a kind, started anew after some commands."""

    def __init__(self, kind: str, profile: Profile, images: Path) -> None:
        self._kind = kind
        self._images = images
        self._place: AbstractContextManager[Path] | None = None
        self._profile = profile
        self._left = 0
        self._machine: Driven | None = None

    def try_to(self, command: str, arguments: dict[str, Any]) -> bool:
        """Whether the command succeeds."""
        if self._machine is not None and self._machine.vm.process.exit_code is not None:
            self._left = 0
        if self._machine is None or self._left == 0:
            self.close()
            # images of the last one may still be locked by what it had under way
            self._place = directory()
            shutil.copytree(self._images, self._place.__enter__(), dirs_exist_ok=True)
            self._machine = boot(MACHINES[self._kind], self._profile)
            self._left = _LIFE
            if self._machine is None:
                raise SystemExit(f"the {self._kind} of {self._profile.name} does not start")
        self._left -= 1
        try:
            self._machine.execute(command, arguments)
        except REFUSALS:
            return False
        return True

    def close(self) -> None:
        """End it."""
        if self._machine is not None:
            self._machine.close()
        self._machine = None
        if self._place is not None:
            self._place.__exit__(None, None, None)
        self._place = None


def generate(profile: Profile, seed: int, rounds: int) -> None:
    """Run what the schema allows: `rounds` of each command, kind of node, and kind of object."""
    maker = Generator(seed)
    with directory() as where:
        make_images(where)
        for kind in MACHINES:
            fresh = Fresh(kind, profile, where)
            for command, arguments in _requests(profile, maker, rounds):
                fresh.try_to(command, arguments)
            fresh.close()


#: option group -> option, and what has to be given beside the key that is tried
_BASES = {
    "accel": ("-accel", "tcg,"), "acpi": ("-acpitable", "data=d1.raw,"), "action": ("-action", ""),
    "add-fd": ("-add-fd", "fd=9,set=1,"), "boot-opts": ("-boot", ""), "device": ("", ""),
    "drive": ("-drive", "if=none,id=d0,"), "fsdev": ("-fsdev", "local,id=f0,security_model=none,"),
    "fw_cfg": ("-fw_cfg", "name=opt/x,"), "icount": ("-icount", ""), "memory": ("-m", "64,"),
    "mon": ("-mon", "chardev=ch1,"), "msg": ("-msg", ""), "name": ("-name", ""),
    "option-rom": ("-option-rom", "romfile=d1.raw,"), "overcommit": ("-overcommit", ""),
    "rtc": ("-rtc", ""), "run-with": ("-run-with", ""), "sandbox": ("-sandbox", "on,"),
    "smbios": ("-smbios", "type=1,"), "smp-opts": ("-smp", "2,"), "tpmdev": ("-tpmdev", ""),
    "trace": ("-trace", ""), "vnc": ("-vnc", "127.0.0.1:900,to=999,"),
    "plugin": ("-plugin", "file=d1.raw,"),
    "audiodev": ("", ""), "virtfs": ("-virtfs", "local,mount_tag=t,security_model=none,path=.,"),
}  # fmt: skip
#: keys of a machine of a drive, which takes any, and of character devices of each kind
_DRIVE_KEYS = (
    "file=d2.raw", "format=raw", "cache=none", "aio=threads", "snapshot=on", "media=cdrom",
    "readonly=on", "discard=unmap", "detect-zeroes=on", "copy-on-read=on", "werror=stop",
    "rerror=stop", "serial=x", "index=1", "bus=0", "unit=1", "throttling.iops-total=5",
    "node-name=nn", "cache.direct=on", "cache.no-flush=on", "cache.writeback=on",
    "force-share=on", "auto-read-only=on", "driver=raw", "locking=off", "stats-account-failed=on",
    "read-only=on", "rerror=report", "group=g", "bps=5", "iops=5", "addr=1", "locking=on",
)
_CHARDEV_KINDS = {
    "null": "", "ringbuf": "size=1024,", "file": "path=out,",
    "socket": "path=s0,server=on,wait=off,",
    "udp": "port=1,", "pty": "", "vc": "", "pipe": "path=p0,", "mux": "chardev=ch0,",
}


def start_with_each_key(profile: Profile) -> None:
    """A start for each key of each option group."""
    with directory() as where:
        make_images(where)
        for option, text in _option_strings(profile):
            machine = boot((*_SMALL, option, text), profile)
            if machine is not None:
                machine.close()


_SMALL = ("-machine", "q35", *_COMMON[:4], "-chardev", "null,id=ch0", "-chardev", "null,id=ch1")
_SAMPLES = {"boolean": ("on", "off"), "number": ("1", "2"), "size": ("1M",), "string": ("a", "1")}


def _chardev_keys(profile: Profile, kind: str) -> set[str]:
    """The keys that belong to a kind of character device; QEMU takes and ignores the others."""
    backend = profile.schema.object("ChardevBackend").variant(kind)
    keys = {"logfile", "logappend", "mux", "path", "host", "port", "ipv4", "ipv6", "localaddr",
            "localport", "delay", "nodelay", "fd", "abstract", "tight", "to"}
    found = {"logfile", "logappend", "mux"}
    if kind in ("socket", "udp"):
        found |= keys
    for member in backend.members if backend is not None else ():
        if isinstance(member.type, ObjectType):
            found |= {each.name for each in member.type.members}
    return found


def _option_strings(profile: Profile) -> Iterator[tuple[str, str]]:
    for group in profile.option_groups:
        option, base = _BASES.get(group["option"], ("", ""))
        for key in group["parameters"]:
            if not option or key["name"] == "id":
                continue
            for value in (*_SAMPLES[key["type"]], *_TEXTS.get(key["name"], ())):
                yield option, f"{base}{key['name']}={value}"
        if group["option"] == "chardev":
            for kind, needed in _CHARDEV_KINDS.items():
                for key in group["parameters"]:
                    if key["name"] not in _chardev_keys(profile, kind):
                        continue
                    for value in _SAMPLES[key["type"]]:
                        yield "-chardev", f"{kind},id=c0,{needed}{key['name']}={value}"
    for pair in _DRIVE_KEYS:
        for base in ("if=none,id=d0,", "if=none,id=d0,file=d2.raw,format=raw,"):
            yield "-drive", base + pair
    for entry in profile.machine_properties(profile.machine("q35")):
        for value in ("on", "off", "auto", "1", "a"):
            yield "-machine", f"{entry['name']}={value}"


def _requests(
    profile: Profile, maker: Generator, rounds: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    commands = profile.schema.commands
    for number in range(rounds):
        more = (0.0, 0.07, 0.15, 0.4)[number % 4]
        for command in commands:
            if command not in ("quit", "x-exit-preconfig", "device_add", "system_powerdown"):
                yield command, maker.object(commands[command].arg_type, more=more)
        for command in ("blockdev-add", "object-add", "netdev_add", "blockdev-create"):
            if command not in commands:
                continue
            kind = commands[command].arg_type
            for tag in kind.variants:
                arguments = maker.object(kind, more=more, tag=tag)
                unique = "node-name" if command == "blockdev-add" else "id"
                if unique in {member.name for member in kind.members}:
                    arguments[unique] = f"x{number}{tag[:12].replace('_', '-')}"
                yield command, arguments


def plug_everything(profile: Profile) -> None:
    """Each device type with all properties that it takes at their defaults."""
    with directory() as where:
        make_images(where)
        devices = profile.part("devices")
        left = [
            driver
            for driver in devices
            if devices.get(driver).get("tree") is not None
            and devices.get(driver)["class"]["user"]
        ]
        for kind in MACHINES:
            fresh = Fresh(kind, profile, where)
            left = [each for each in left if not _plug(fresh, each, devices.get(each))]
            fresh.close()


def _plug(fresh: Fresh, driver: str, facts: dict[str, Any]) -> bool:
    """Whether the type can be plugged into a machine like `fresh`."""
    needed = {name: value for name, value in facts["options"].items() if name != "driver"}
    given = {"driver": driver, **needed}
    if not fresh.try_to("device_add", given):
        # the bus may be full of the ones before
        fresh.close()
        if not fresh.try_to("device_add", given):
            return False
    optional = {k: v for k, v in _taken(facts).items() if k not in given}
    while optional:
        if fresh.try_to("device_add", {**given, **optional}):
            return True
        fresh.close()
        # without the last half of what is left: one wrong property must not cost all
        optional = dict(list(optional.items())[: len(optional) // 2])
    return True


def _taken(facts: dict[str, Any]) -> dict[str, Any]:
    values = facts["tree"]["values"]
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, str | int) and value != "" and name not in _NOT_GIVEN
    }


#: properties of the object, not of the type
_NOT_GIVEN = frozenset({"type", "realized", "hotplugged", "hotpluggable", "parent_bus"})
