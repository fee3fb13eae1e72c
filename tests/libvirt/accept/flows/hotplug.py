"""Devices plugged into a running domain; see unplug.py for those that go again."""

from __future__ import annotations

import re
import socket

from accept import domainxml
from accept.domainxml import QEMU64, Domain
from accept.errors import Failed
from accept.lab import Lab
from accept.registry import step

NAME = "acc-plug"
MAC = "52:54:00:12:34:56"


def cdrom_place(lab: Lab) -> tuple[str, str]:
    return ("sdz", "sata") if lab.around.is_q35 else ("hdc", "ide")


def plugged(lab: Lab) -> None:
    """A domain to plug into."""
    extra = domainxml.cdrom(*cdrom_place(lab)) + "<controller type='virtio-serial'/>"
    lab.running(NAME, memory=256, extra=extra)


@step("hotplug.start")
def start(lab: Lab) -> None:
    plugged(lab)


@step("hotplug.attach-disk-bad-image")
def attach_disk_bad_image(lab: Lab) -> None:
    """A file that is no qcow2 must be refused and leave nothing behind."""
    plugged(lab)
    path = lab.images / "garbage.qcow2"
    path.write_bytes(b"this is no qcow2 image " * 4096)
    xml = domainxml.disk(path, "sdc", "scsi")
    if lab.near.ask("attach-device", NAME, lab.file(xml), "--live").code == 0:
        raise Failed("a file that is no qcow2 was attached")
    if "sdc" in lab.targets(NAME):
        raise Failed("sdc in dumpxml")
    nodes = lab.near.qmp(NAME, "query-named-block-nodes", {"flat": True})
    if str(path) in {node.get("file") for node in nodes}:
        raise Failed(f"left behind among {sorted(node['node-name'] for node in nodes)}")


@step("hotplug.attach-disk-missing-file")
def attach_disk_missing_file(lab: Lab) -> None:
    """Libvirt itself refuses."""
    plugged(lab)
    xml = domainxml.disk(lab.images / "nope.qcow2", "sdc", "scsi")
    if lab.near.ask("attach-device", NAME, lab.file(xml), "--live").code == 0:
        raise Failed("a missing file was attached")
    if "sdc" in lab.targets(NAME):
        raise Failed("sdc in dumpxml")


@step("hotplug.set-link")
def set_link(lab: Lab) -> None:
    plugged(lab)
    lab.near.virsh("domif-setlink", NAME, MAC, "down")
    lab.near.virsh("domif-setlink", NAME, MAC, "up")


@step("hotplug.attach-rng")
def attach_rng(lab: Lab) -> None:
    plugged(lab)
    lab.attach(NAME, "<rng model='virtio'><backend model='random'>/dev/random</backend></rng>")
    rngs = lab.near.dumpxml(NAME).findall("devices/rng")
    if len(rngs) != 2:
        raise Failed("rng not in dumpxml")
    lab.check_in_qom(NAME, rngs[1])


@step("hotplug.memory-dimm")
def memory_dimm(lab: Lab) -> None:
    name = "acc-dimm"
    numa = "<numa><cell id='0' cpus='0' memory='256' unit='MiB'/></numa></cpu>"
    lab.define(
        Domain(
            name,
            memory=256,
            max_vcpus=1,
            disk=lab.image(f"{name}.qcow2"),
            max_memory="<maxMemory slots='4' unit='MiB'>1024</maxMemory>",
            cpu=QEMU64.replace("</cpu>", numa),
        )
    )
    lab.near.virsh("start", name, timeout=60)
    target = "<target><size unit='MiB'>128</size><node>0</node></target>"
    lab.attach(name, f"<memory model='dimm'>{target}</memory>")
    if not lab.near.dumpxml(name).findall("devices/memory"):
        raise Failed("the DIMM is not in dumpxml")
    said = lab.near.virsh("dominfo", name)
    if not re.search(r"Max memory:\s+393216 KiB", said):
        raise Failed("dominfo: " + said)
    lab.near.gone(name)


@step("hotplug.setmem")
def setmem(lab: Lab) -> None:
    plugged(lab)
    lab.near.virsh("setmem", NAME, "200M", "--live")
    lab.near.virsh("setmem", NAME, "256M", "--live")
    lab.near.virsh("dommemstat", NAME)


@step("hotplug.memstat-period")
def memstat_period(lab: Lab) -> None:
    plugged(lab)
    lab.near.virsh("dommemstat", NAME, "--period", "2", "--live")
    lab.near.virsh("dommemstat", NAME)


@step("hotplug.setvcpus")
def setvcpus(lab: Lab) -> None:
    plugged(lab)
    lab.near.virsh("setvcpus", NAME, "2", "--live")
    count = int(lab.near.virsh("vcpucount", NAME, "--live", "--active"))
    if count != 2:
        raise Failed(f"{count} vcpus")
    cpus = lab.near.qmp(NAME, "query-cpus-fast")
    if len(cpus) != 2:
        raise Failed(f"the emulator has {len(cpus)} cpus")


@step("hotplug.setvcpu")
def setvcpu(lab: Lab) -> None:
    plugged(lab)
    lab.near.virsh("setvcpu", NAME, "3", "--enable", "--live")


@step("hotplug.blockresize")
def blockresize(lab: Lab) -> None:
    plugged(lab)
    lab.near.virsh("blockresize", NAME, "vda", "128M")
    if not re.search(r"Capacity:\s+134217728", lab.near.virsh("domblkinfo", NAME, "vda")):
        raise Failed("the size did not change")


@step("hotplug.iothread")
def iothread(lab: Lab) -> None:
    plugged(lab)
    lab.near.virsh("iothreadadd", NAME, "2", "--live")
    said = lab.near.virsh("iothreadinfo", NAME)
    if not re.search(r"(?m)^\s*2\s", said):
        raise Failed("iothreadinfo: " + said)
    lab.near.virsh("iothreadset", NAME, "2", "--live", "--poll-max-ns", "1000")
    lab.near.virsh("domstats", NAME, "--iothread")
    lab.near.virsh("iothreaddel", NAME, "2", "--live")
    if re.search(r"(?m)^\s*2\s", lab.near.virsh("iothreadinfo", NAME)):
        raise Failed("iothread 2 is still there")


@step("hotplug.blkdeviotune")
def blkdeviotune(lab: Lab) -> None:
    plugged(lab)
    words = ("blkdeviotune", NAME, "vda", "--live")
    lab.near.virsh(*words, "--total-bytes-sec", "1000000")
    said = lab.near.virsh(*words)
    if not re.search(r"total_bytes_sec\s*:\s*1000000", said):
        raise Failed(said)
    lab.near.virsh(*words, "--total-bytes-sec", "0")


@step("hotplug.write-threshold")
def write_threshold(lab: Lab) -> None:
    plugged(lab)
    lab.near.virsh("domblkthreshold", NAME, "vda", "1M")


@step("hotplug.cdrom")
def cdrom(lab: Lab) -> None:
    plugged(lab)
    image = lab.image("cd.img", "1M", "raw")
    device, _ = cdrom_place(lab)
    lab.near.virsh("change-media", NAME, device, image, "--insert", "--live")
    if str(image) not in lab.near.virsh("domblklist", NAME):
        raise Failed("not inserted")
    lab.near.virsh("change-media", NAME, device, "--eject", "--live", "--force")
    if str(image) in lab.near.virsh("domblklist", NAME):
        raise Failed("not ejected")


@step("hotplug.attach-chardev")
def attach_chardev(lab: Lab) -> None:
    plugged(lab)
    path = lab.sockets / "channel"
    lab.attach(
        NAME,
        f"<channel type='unix'><source mode='bind' path='{path}'/>"
        "<target type='virtio' name='com.example.acc'/></channel>",
    )
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(3)
        try:
            client.connect(str(path))
        except OSError as error:
            raise Failed(f"channel socket: {error}") from None


@step("hotplug.detach-chardev")
def detach_chardev(lab: Lab) -> None:
    plugged(lab)

    def there() -> bool:
        names = lab.near.dumpxml(NAME).findall("devices/channel/target")
        return "com.example.acc" in {name.get("name") for name in names}

    xml = f"""<channel type='unix'><source mode='bind' path='{lab.sockets / "channel"}'/>
<target type='virtio' name='com.example.acc'/></channel>"""
    lab.detach(NAME, xml, there)


@step("hotplug.cleanup")
def cleanup(lab: Lab) -> None:
    lab.near.gone(NAME)
