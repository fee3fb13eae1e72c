"""What each device type shows when it is plugged with as few options as it lets itself be.

Part `devices`: type -> {"class": {...}, "error": text or null, "options": {...}, "tree": ...,
"pci": ..., "hotplug": text or null}. `error` is what refuses it without options; `tree` (shape
as in `machines.walk`) and `pci` (its entry of query-pci) are those with `options`; `hotplug`
is what device_add says to a second one, null when it takes it.
"""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from recording.machines import walk
from recording.qemu import Gone, Qemu, ask_surviving

#: the machine that everything is plugged into
BASE = ["-machine", "q35", "-accel", "tcg", "-S", "-nodefaults", "-m", "64"]
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
}
#: bus type -> the machine for devices of buses that BASE cannot have
MACHINES = {
    "virtio-bus": ["-machine", "microvm", "-accel", "tcg", "-S", "-nodefaults", "-m", "64"],
}
#: type -> the machine that has a place for it
PLACES = {
    "pc-dimm": [*BASE[:-1], "64,slots=2,maxmem=1G"],
    "nvdimm": ["-machine", "q35,nvdimm=on", *BASE[2:-1], "64,slots=2,maxmem=1G"],
    "virtio-mem-pci": [*BASE[:-1], "64,maxmem=1G", *PORTS],
    "virtio-pmem-pci": [*BASE[:-1], "64,maxmem=1G", *PORTS],
    "pxb": ["-machine", "pc", *BASE[2:]],
}
#: bus for the device_add of a second one
HOT_BUS = {"PCI": "rp1"}


def record_devices(binary: str) -> dict[str, Any]:
    """The part's value."""
    with Qemu(binary, *BASE) as qemu:
        classes = device_classes(qemu.hmp("info qdm"))
    names = [n for n, about in classes.items() if about["user"] and not _endangers(n)]
    asked = [("device-list-properties", {"typename": name}) for name in names]
    replies = ask_surviving(binary, BASE, asked)
    properties = {
        name: [p["name"] for p in reply.get("return", ())]
        for name, reply in zip(names, replies, strict=True)
        if reply is not None
    }
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda n: _device(binary, n, classes[n], properties[n]), properties))
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


def surroundings(name: str, about: dict[str, Any]) -> list[str]:
    """The command line of a machine that has a bus for a type of which `about` is `class`."""
    kind = about["bus"] or ""
    usual = [*BASE, *PORTS, *PROVIDERS.get(kind, [])]
    return PLACES.get(name) or MACHINES.get(kind) or usual


def _endangers(name: str) -> bool:
    """Types that reach for the host's hardware."""
    return name.startswith(("vfio", "usb-host", "scsi-block", "scsi-generic", "vhost", "x-vfio"))


def _device(binary: str, name: str, about: dict[str, Any], properties: list[str]) -> dict[str, Any]:
    base = surroundings(name, about)
    seen: dict[str, Any] = {"error": None, "options": {}, "tree": None}
    seen.update(pci=None, hotplug=None)
    attempts: list[list[str]] = [[]]
    attempts += [[p] for p in HELPERS if p in properties]
    attempts += [[p for p in HELPERS if p in properties]] if len(attempts) > 2 else []
    for number, helpers in enumerate(attempts):
        extra = [a for p in helpers for a in HELPERS[p][0]]
        options = {p: HELPERS[p][1] for p in helpers}
        text = ",".join([name, "id=probe", *(f"{k}={v}" for k, v in options.items())])
        result = _plug(binary, [*base, *extra, "-device", text], name, about)
        if isinstance(result, str):
            if number == 0:
                seen["error"] = result
        else:
            return {**seen, **result, "options": options}
    return seen


def _plug(binary: str, argv: list[str], name: str, about: dict[str, Any]) -> dict[str, Any] | str:
    try:
        qemu = Qemu(binary, *argv)
    except Gone:
        return _refusal(binary, argv)
    with qemu:
        tree = walk(qemu, "/machine/peripheral/probe")
        pci = next(_find_pci(qemu.ask("query-pci").get("return", [])), None)
        arguments = {"driver": name, "id": "second"}
        if about["bus"] in HOT_BUS and set(PORTS) <= set(argv):
            arguments["bus"] = HOT_BUS[about["bus"]]
        try:
            hotplug = qemu.ask("device_add", arguments).get("error", {}).get("desc")
        except Gone:
            hotplug = ""
    return {"tree": tree, "pci": pci, "hotplug": hotplug}


def _refusal(binary: str, argv: list[str]) -> str:
    command = [binary, *argv, "-display", "none"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return ""
    lines = done.stderr.splitlines()
    blamed = [line for line in lines if argv[-1] in line and "warning:" not in line]
    return blamed[0].split(f"-device {argv[-1]}: ", 1)[-1] if blamed else "\n".join(lines)


def _find_pci(buses: list[dict[str, Any]]) -> Any:
    for bus in buses:
        for device in bus["devices"]:
            if device["qdev_id"] == "probe":
                yield device
            if "pci_bridge" in device and "devices" in device["pci_bridge"]:
                yield from _find_pci([device["pci_bridge"]])
