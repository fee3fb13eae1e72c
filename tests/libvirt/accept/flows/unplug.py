"""Devices that come, are used and go again."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from accept import domainxml
from accept.errors import Failed, Skipped
from accept.lab import Lab
from accept.registry import step

NAME = "acc-unplug"
MAC = "52:54:00:aa:bb:cc"
TAP = "acc-tap"
TAP_MACS = ("52:54:00:0a:0a:01", "52:54:00:0a:0a:02")


def attach_disk(lab: Lab, target: str, bus: str) -> ET.Element:
    """Plug a new disk, unless it is there; its element."""
    lab.running(NAME, memory=256)
    if target not in lab.targets(NAME):
        image = lab.image(f"plug-{target}.qcow2")
        lab.attach(NAME, domainxml.disk(image, target, bus))
    if target not in lab.targets(NAME):
        raise Failed(f"{target} not in dumpxml")

    def is_it(element: ET.Element) -> bool:
        return element.find(f"target[@dev='{target}']") is not None

    return lab.device(NAME, "devices/disk", is_it)


def attach_nic(lab: Lab, domain: str, mac: str, xml: str) -> ET.Element:
    """Plug a new NIC, unless it is there; its element."""
    if mac not in lab.macs(domain):
        lab.attach(domain, xml)
    if mac not in lab.macs(domain):
        raise Failed(f"{mac} not in dumpxml")

    def is_it(element: ET.Element) -> bool:
        return element.find(f"mac[@address='{mac}']") is not None

    return lab.device(domain, "devices/interface", is_it)


def text(element: ET.Element) -> str:
    return ET.tostring(element, encoding="unicode")


@step("hotplug.attach-disk-scsi")
def attach_disk_scsi(lab: Lab) -> None:
    lab.running(NAME, memory=256)
    mark = lab.near.mark()
    disk = attach_disk(lab, "sdb", "scsi")
    lab.near.wait_event(rf"event 'device-added' for domain '{NAME}", mark)
    lab.check_in_qom(NAME, disk)
    if not re.search(r"Capacity:\s+67108864", lab.near.virsh("domblkinfo", NAME, "sdb")):
        raise Failed("domblkinfo of the new disk")


@step("hotplug.detach-disk-scsi")
def detach_disk_scsi(lab: Lab) -> None:
    disk = attach_disk(lab, "sdb", "scsi")
    lab.detach(NAME, text(disk), lambda: "sdb" in lab.targets(NAME))


@step("hotplug.attach-disk-virtio")
def attach_disk_virtio(lab: Lab) -> None:
    lab.check_in_qom(NAME, attach_disk(lab, "vdb", "virtio"))


@step("hotplug.detach-disk-virtio")
def detach_disk_virtio(lab: Lab) -> None:
    disk = attach_disk(lab, "vdb", "virtio")
    lab.detach(NAME, text(disk), lambda: "vdb" in lab.targets(NAME))


@step("hotplug.attach-net")
def attach_net(lab: Lab) -> None:
    lab.running(NAME, memory=256)
    lab.check_in_qom(NAME, attach_nic(lab, NAME, MAC, domainxml.nic(MAC)))


@step("hotplug.detach-net")
def detach_net(lab: Lab) -> None:
    lab.running(NAME, memory=256)
    nic = attach_nic(lab, NAME, MAC, domainxml.nic(MAC))
    lab.detach(NAME, text(nic), lambda: MAC in lab.macs(NAME))


@step("hotplug.usb")
def usb(lab: Lab) -> None:
    lab.running(NAME, memory=256)
    path = "devices/input[@bus='usb']"
    lab.attach(NAME, "<input type='tablet' bus='usb'/>")
    tablet = lab.device(NAME, path, lambda _: True)
    lab.detach(NAME, text(tablet), lambda: lab.near.dumpxml(NAME).find(path) is not None)


@step("hotplug.device-alias-detach")
def device_alias_detach(lab: Lab) -> None:
    """The error of device_del for an id that is gone."""
    lab.running(NAME, memory=256)
    request = '{"execute":"device_del","arguments":{"id":"nosuchdev"}}'
    outcome = lab.near.ask("qemu-monitor-command", NAME, request)
    if "DeviceNotFound" not in outcome.out + outcome.err:
        raise Failed(str(outcome))


@step("unplug.cleanup")
def unplug_cleanup(lab: Lab) -> None:
    lab.near.gone(NAME)


def with_tap(lab: Lab) -> None:
    if not lab.options.tap:
        raise Skipped("needs --tap (makes tap devices; run it under 'unshare -n')")
    lab.running(TAP, extra=domainxml.tap("acctap0", TAP_MACS[0]))


@step("tap.start")
def tap_start(lab: Lab) -> None:
    """A tap device made by libvirt, its descriptor inherited."""
    with_tap(lab)
    said = lab.near.virsh("domifstat", TAP, "acctap0")
    if "rx_bytes" not in said:
        raise Failed(said)


@step("tap.hotplug")
def tap_hotplug(lab: Lab) -> None:
    """A tap descriptor passed over the monitor."""
    with_tap(lab)
    nic = attach_nic(lab, TAP, TAP_MACS[1], domainxml.tap("acctap1", TAP_MACS[1]))
    lab.detach(TAP, text(nic), lambda: TAP_MACS[1] in lab.macs(TAP))


@step("tap.cleanup")
def tap_cleanup(lab: Lab) -> None:
    lab.near.gone(TAP)
