"""What libvirt asks of an emulator before it starts a domain on it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from accept.domainxml import Domain
from accept.errors import Failed, Skipped
from accept.lab import Lab
from accept.registry import step

HOST_EMULATOR = "/usr/bin/qemu-system-x86_64"


def domain_capabilities(lab: Lab) -> ET.Element:
    words = ["--emulatorbin", lab.emulator, "--machine", lab.options.machine]
    words += ["--virttype", lab.options.virttype, "--arch", "x86_64"]
    return ET.fromstring(lab.near.virsh("domcapabilities", *words, timeout=120))


def probes(log: str, emulator: Path | str) -> int:
    """How often libvirtd started an emulator to ask it."""
    return log.count(f"Try to probe capabilities of '{emulator}'")


@step("probe.daemon-start")
def daemon_start(lab: Lab) -> None:
    lab.near.start()
    lab.near.virsh("uri", timeout=120)
    lab.near.start_events()


@step("probe.version")
def version(lab: Lab) -> None:
    said = lab.near.virsh("version", timeout=120)
    if not re.search(r"Running hypervisor: QEMU \d+\.\d+\.\d+", said):
        raise Failed("no 'Running hypervisor: QEMU x.y.z': " + said)
    log = lab.near.log_since()
    if not probes(log, lab.default_emulator):
        raise Failed("libvirtd did not probe the emulator under test")
    if probes(log, HOST_EMULATOR):
        raise Failed(f"the probe failed, libvirt fell back to {HOST_EMULATOR}")


@step("probe.capabilities")
def capabilities(lab: Lab) -> None:
    tree = ET.fromstring(lab.near.virsh("capabilities", timeout=120))
    arch = tree.find("guest/arch[@name='x86_64']")
    if arch is None:
        raise Failed(f"no x86_64 guest (did the probe fail?) {lab.near.complaints()}")
    if Path(arch.findtext("emulator", "")).parent != lab.default_emulator.parent:
        raise Failed(f"default emulator is {arch.findtext('emulator')}")
    machines = arch.findall("machine")
    names = {each.text for each in machines} | {each.get("canonical") for each in machines}
    if lab.options.machine not in names:
        raise Failed(f"machine {lab.options.machine} is not among {len(names)}")
    if arch.find(f"domain[@type='{lab.options.virttype}']") is None:
        raise Failed(f"no <domain type='{lab.options.virttype}'>")


@step("probe.domcapabilities")
def domcapabilities(lab: Lab) -> None:
    tree = domain_capabilities(lab)
    if tree.findtext("path") != str(lab.emulator):
        raise Failed(f"path {tree.findtext('path')}")
    if tree.findtext("domain") != lab.options.virttype:
        raise Failed(f"domain {tree.findtext('domain')}")
    wanted = {
        "devices/disk/enum[@name='bus']": {"virtio", "scsi", "sata"},
        "devices/rng/enum[@name='model']": {"virtio"},
        "memoryBacking/enum[@name='sourceType']": {"anonymous"},
    }
    for path, values in wanted.items():
        found = {str(value.text) for value in tree.findall(path + "/value")}
        if not values <= found:
            raise Failed(f"{path}: {sorted(found)} lacks {sorted(values - found)}")
    if tree.find("iothreads[@supported='yes']") is None:
        raise Failed("iothreads are not supported")


@step("probe.cpu-models")
def cpu_models(lab: Lab) -> None:
    custom = domain_capabilities(lab).find("cpu/mode[@name='custom'][@supported='yes']")
    if custom is None:
        raise Failed("custom CPU mode is not supported")
    usable = {model.text: model.get("usable") for model in custom.findall("model")}
    if "qemu64" not in usable:
        raise Failed(f"no qemu64 among {len(usable)} CPU models")
    if lab.options.virttype == "qemu" and usable["qemu64"] != "yes":
        raise Failed(f"qemu64 usable={usable['qemu64']}")


@step("probe.cache-file")
def cache_file(lab: Lab) -> None:
    entry = f"<emulator>{lab.emulator}</emulator>"
    if not any(entry in path.read_text() for path in lab.near.launch.cache.iterdir()):
        raise Failed("no entry for the emulator in the capabilities cache")


@step("probe.cached")
def cached(lab: Lab) -> None:
    """Asking again must not start the emulator again."""
    before = lab.near.log_size()
    domain_capabilities(lab)
    count = probes(lab.near.log_since(before), lab.emulator)
    if count and lab.options.kvm:
        raise Skipped("libvirt sees a usable /dev/kvm that the emulator does not report")
    if count:
        raise Failed(f"libvirt probed again {count} times: it took the cache for invalid")


@step("probe.xml-to-native")
def xml_to_native(lab: Lab) -> None:
    name = "acc-native"
    domain = Domain(name, disk=lab.image("native.qcow2"), extra=lab.rich_devices(name))
    path = lab.file(domain.xml(lab.around))
    said = lab.near.virsh("domxml-to-native", "qemu-argv", "--xml", path)
    if "-machine" not in said or "-device" not in said:
        raise Failed("odd argv: " + said[:200])
