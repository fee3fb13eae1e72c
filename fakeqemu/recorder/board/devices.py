"""What each device type shows when it is plugged with as few options as it lets itself be.

Part `devices`: type -> {"class": {...}, "error": text or null, "options": {...}, "tree": ...,
"pci": ..., "hotplug": text or null}. `error` is what refuses it without options; `tree` (shape
as in `machines.walk`) and `pci` (its entry of query-pci) are those with `options`; `hotplug`
is what device_add says to a second one, null when it takes it. `host`: the tree of the host bridge
that comes along with an expander, `bridge` that of the bridge on its bus.

Devices that take a TPM get one of swtpm(8), which `--terminate` ends with the machine.
"""

from __future__ import annotations

import atexit
import contextlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fakeqemu.recorder.board.machines import walk
from fakeqemu.recorder.board.visits import Seen, Visits
from fakeqemu.recorder.qemu import Emulator, Gone, Qemu, ask_surviving, refusal

PORTS = [
    argument
    for n in (1, 2)
    for argument in ("-device", f"pcie-root-port,id=rp{n},chassis={n},addr={n + 1:x}")
]
#: bus type -> what offers such a bus
PROVIDERS = {
    "usb-bus": ["-device", "qemu-xhci,id=xhci,addr=9"],
    "SCSI": ["-device", "virtio-scsi-pci,id=scsi,addr=9"],
    "virtio-serial-bus": ["-device", "virtio-serial-pci,id=vser,addr=9"],
    "HDA": ["-device", "ich9-intel-hda,id=hda,addr=9"],
    "ccid-bus": ["-device", "qemu-xhci,id=xhci,addr=9", "-device", "usb-ccid,id=ccid"],
    "nvme-bus": ["-device", "nvme,id=nvme,serial=s,addr=9"],
    "sd-bus": ["-device", "sdhci-pci,id=sdhci,addr=9"],
    "floppy-bus": ["-device", "isa-fdc,id=fdc"],
    "IndustryPack": ["-device", "tpci200,id=ipack,addr=9"],
    "ufs-bus": ["-device", "ufs,id=ufs,addr=9"],
    "vmbus": ["-device", "vmbus-bridge"],
}
#: property -> (what has to be there for it, its value)
HELPERS = {
    "drive": (["-blockdev", "driver=null-co,node-name=n0,size=1048576"], "n0"),
    "chardev": (["-chardev", "null,id=c0"], "c0"),
    "memdev": (["-object", "memory-backend-ram,id=m0,size=16M"], "m0"),
    "cryptodev": (["-object", "cryptodev-backend-builtin,id=cr0"], "cr0"),
    "serial": ([], "s"),
    "audiodev": (["-audiodev", "none,id=a0"], "a0"),
    "netdev": (["-netdev", "hubport,hubid=0,id=h0"], "h0"),
    "chassis_nr": ([], "1"),
    "bus_nr": ([], "32"),
    "bmc": (["-device", "ipmi-bmc-sim,id=bmc0"], "bmc0"),
    "canbus": (["-object", "can-bus,id=can0"], "can0"),
    "canbus0": (["-object", "can-bus,id=can0"], "can0"),
    "canbus1": ([], "can0"),
    "mount_tag": (["-fsdev", "local,id=fs0,path=/,security_model=none"], "tag"),
    "fsdev": ([], "fs0"),
    "rootdir": ([], "/"),
    "tpmdev": ([], "tpm0"),
}
#: type -> (machine type's properties, options of -m) that have a place for it
PLACES = {
    "pc-dimm": ("", ",slots=2,maxmem=1G"),
    "nvdimm": (",nvdimm=on", ",slots=2,maxmem=1G"),
    "virtio-mem-pci": ("", ",maxmem=1G"),
    "virtio-pmem-pci": ("", ",maxmem=1G"),
    "spapr-nvdimm": ("", ",slots=2,maxmem=1G"),
    "virtio-mem-ccw": ("", ",maxmem=1G"),
}
#: board, type -> what that board asks of it besides, and arguments in place of a helper's
DEMANDS: dict[tuple[str, str], tuple[dict[str, str], list[str]]] = {
    ("pseries", "pc-dimm"): ({}, ["-object", "memory-backend-ram,id=m0,size=256M"]),
    ("pseries", "nvdimm"): (
        {"label-size": "128K", "uuid": "00000000-0000-4000-8000-000000000001"},
        ["-object", "memory-backend-ram,id=m0,size=262272K"],
    ),
    ("pseries", "spapr-nvdimm"): (
        {"label-size": "128K", "uuid": "00000000-0000-4000-8000-000000000001"},
        ["-object", "memory-backend-memfd,id=m0,size=262272K"],
    ),
}
#: type that is plugged into the older of two boards -> that board
_OLDER = {"pxb": "pc"}
_MODULES = frozenset({"pc-dimm", "nvdimm", "spapr-nvdimm"})
#: type of what a PCI expander brings along, as qom-list has it -> member
_EXPANSIONS = {"child<pxb-host>": "host", "child<pci-bridge>": "bridge"}
#: seconds for the socket of swtpm to be there
_PATIENCE = 10.0
#: bus for the device_add of a second one
HOT_BUS = {"PCI": "rp1"}


def record_devices(visits: Visits) -> dict[str, Any]:
    """The part's value."""
    emulator = visits.emulator
    with Qemu(emulator, *base(emulator)) as qemu:
        classes = device_classes(qemu.hmp("info qdm"))
    names = [n for n, about in classes.items() if about["user"] and not _endangers(n)]
    asked = [("device-list-properties", {"typename": name}) for name in names]
    replies = ask_surviving(emulator, base(emulator), asked)
    properties = {
        name: [p["name"] for p in reply.get("return", ())]
        for name, reply in zip(names, replies, strict=True)
        if reply is not None
    }
    with ThreadPoolExecutor(2) as pool:
        found = list(
            pool.map(lambda n: _device(visits, n, classes[n], properties[n]), properties)
        )
    devices = {name: {"class": about} for name, about in classes.items()}
    for name, seen in zip(properties, found, strict=True):
        devices[name].update(seen)
    return {"devices": devices}


def device_classes(text: str) -> dict[str, Any]:
    """`info qdm` by type: bus, alias, and whether users may create it."""
    classes: dict[str, Any] = {}
    for line in text.splitlines():
        if match := re.match(r'name "([^"]+)"(?:, bus ([^,]+))?(?:, alias "([^"]+)")?', line):
            classes[match[1]] = {
                "bus": match[2],
                "alias": match[3],
                "user": not line.endswith(", no-user"),
            }
    return dict(sorted(classes.items()))


def base(emulator: Emulator, properties: str = "", memory: str = "") -> list[str]:
    """The machine that everything is plugged into; text behind its type and behind -m."""
    board = emulator.board
    argv = emulator.machine(f"{board.name}{properties}", "-nodefaults")
    return [*argv, "-m", f"{board.memory}{memory}"]


def surroundings(emulator: Emulator, name: str, about: dict[str, Any]) -> list[str]:
    """The command line of a machine that has a bus for a type of which `about` is `class`."""
    ports = PORTS if emulator.board.root_ports else []
    if name in PLACES:
        return [*base(emulator, *PLACES[name]), *([] if name in _MODULES else ports)]
    other = _OLDER.get(name)
    if other is None and about["bus"] == "virtio-bus":
        other = emulator.mmio_board
    if other is not None and emulator.board.name == "q35":
        return [*emulator.machine(other, "-nodefaults"), "-m", str(emulator.board.memory)]
    return [*base(emulator), *ports, *PROVIDERS.get(about["bus"] or "", [])]


def helpers_of(emulator: Emulator, name: str, options: Collection[str]) -> list[str]:
    """What has to be there for a device of a type with those options."""
    demanded = DEMANDS.get((emulator.board.name, name))
    if demanded is not None and options:
        return demanded[1]
    return helpers_for([each for each in options if each in HELPERS])


def helpers_for(names: Collection[str]) -> list[str]:
    """What has to be there for those properties; to be asked for anew for each start."""
    fixed = [argument for name in names for argument in HELPERS[name][0]]
    return [*fixed, *(_tpm_arguments() if "tpmdev" in names else [])]


def _tpm_arguments() -> list[str]:
    """What gives one machine a -tpmdev of its own; nothing where swtpm is missing."""
    if shutil.which("swtpm") is None:
        return []
    folder = Path(tempfile.mkdtemp(prefix="tpm-"))
    path = folder / "control"
    emulator = subprocess.Popen(
        ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--terminate",
         "--ctrl", f"type=unixio,path={path}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    # a machine that is refused before it connects does not end it
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(emulator.kill)
    end = time.monotonic() + _PATIENCE
    while not path.exists():
        if time.monotonic() > end:
            raise RuntimeError(f"swtpm does not listen at {path} after {_PATIENCE} s")
        time.sleep(0.02)
    chardev = f"socket,id=tpmchr,path={path}"
    return ["-chardev", chardev, "-tpmdev", "emulator,id=tpm0,chardev=tpmchr"]


def _endangers(name: str) -> bool:
    """Types that reach for the host's hardware."""
    return name.startswith(("vfio", "usb-host", "scsi-block", "scsi-generic", "vhost", "x-vfio"))


def device_option(name: str, options: dict[str, Any]) -> str:
    """The argument of -device for a device that is looked at."""
    return ",".join([name, "id=probe", *(f"{k}={v}" for k, v in options.items())])


def _device(
    visits: Visits, name: str, about: dict[str, Any], properties: list[str]
) -> dict[str, Any]:
    seen: dict[str, Any] = {"error": None, "options": {}, "tree": None}
    seen.update(pci=None, hotplug=None)
    attempts: list[list[str]] = [[]]
    attempts += [[p] for p in HELPERS if p in properties]
    attempts += [[p for p in HELPERS if p in properties]] if len(attempts) > 2 else []
    more, _ = DEMANDS.get((visits.emulator.board.name, name), ({}, []))
    for number, helpers in enumerate(attempts):
        options = {p: HELPERS[p][1] for p in helpers} | (more if helpers else {})
        result = _plug(visits, name, about, options)
        if isinstance(result, str):
            if number == 0:
                seen["error"] = result
        else:
            return {**seen, **result, "options": options}
    return seen


def _plug(
    visits: Visits, name: str, about: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any] | str:
    """What is seen of a device in a machine; the text of the refusal if it is none."""
    start = surroundings(visits.emulator, name, about)
    helpers = helpers_of(visits.emulator, name, options)
    argv = [*start, *helpers, "-device", device_option(name, options)]
    found: dict[str, Any] = {"hotplug": ""}

    def ask(qemu: Qemu) -> dict[str, Any]:
        found["tree"] = walk(qemu, "/machine/peripheral/probe")
        found.update(_host_bridge(qemu))
        found["pci"] = next(_find_pci(qemu.ask("query-pci").get("return", [])), None)
        return found

    def plug_second(qemu: Qemu, _: Any) -> None:
        arguments = {"driver": name, "id": "second"}
        if about["bus"] in HOT_BUS and set(PORTS) <= set(start):
            arguments["bus"] = HOT_BUS[about["bus"]]
        with contextlib.suppress(Gone):
            found["hotplug"] = qemu.ask("device_add", arguments).get("error", {}).get("desc")

    try:
        visits.devices[name] = visits.look(argv, ask, functions=_function, then=plug_second)
    except Gone:
        return _refusal(visits.emulator, argv)
    return found


def _function(found: dict[str, Any]) -> int | None:
    """Where a device is on the first PCI bus."""
    pci = found["pci"]
    if pci is None or pci["bus"]:
        return None
    return int(pci["slot"]) << 3 | int(pci["function"])


def look_at(visits: Visits, name: str, recorded: dict[str, Any]) -> Seen | None:
    """A machine with a device of a type whose entry of the part is `recorded`.

    None if there is none now.
    """
    if name not in visits.devices:
        _plug(visits, name, recorded["class"], recorded["options"])
    return visits.devices.get(name)


def sent_without(visits: Visits, name: str, recorded: dict[str, Any]) -> dict[str, list[Any]]:
    """What that machine sends without the device, as `what_is_sent` tells it."""
    start, options = surroundings(visits.emulator, name, recorded["class"]), recorded["options"]
    key = (*start, *sorted(options))
    return visits.bare(key, lambda: [*start, *helpers_of(visits.emulator, name, options)])


def _host_bridge(qemu: Qemu) -> dict[str, Any]:
    found: dict[str, Any] = {}
    unattached = "/machine/unattached"
    for entry in qemu.value("qom-list", {"path": unattached}):
        kind = _EXPANSIONS.get(entry["type"])
        if kind is not None:
            found[kind] = walk(qemu, f"{unattached}/{entry['name']}")
            drop_children(found[kind])
    return found


def drop_children(node: dict[str, Any]) -> None:
    """Leave out the links from buses to what is on them."""
    for child in node["children"].values():
        drop_children(child)
    links = {name for name, kind in node["properties"] if re.fullmatch(r"child\[\d+\]", name)}
    node["properties"] = [each for each in node["properties"] if each[0] not in links]
    node["values"] = {name: v for name, v in node["values"].items() if name not in links}


def _refusal(emulator: Emulator, argv: list[str]) -> str:
    lines = refusal(emulator, *argv, "-display", "none").splitlines()
    blamed = [line for line in lines if argv[-1] in line and "warning:" not in line]
    return blamed[0].split(f"-device {argv[-1]}: ", 1)[-1] if blamed else "\n".join(lines)


def _find_pci(buses: list[dict[str, Any]]) -> Any:
    for bus in buses:
        for device in bus["devices"]:
            if device["qdev_id"] == "probe":
                yield device
            if "pci_bridge" in device and "devices" in device["pci_bridge"]:
                yield from _find_pci([device["pci_bridge"]])
