"""The domains of the acceptance run, as XML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

QEMU64 = (
    "<cpu mode='custom' match='exact' check='none'><model fallback='forbid'>qemu64</model></cpu>"
)
CONSOLE = (
    "<serial type='pty'><target port='0'/></serial>"
    "<console type='pty'><target type='serial' port='0'/></console>"
)


@dataclass(frozen=True)
class Surroundings:
    """What every domain of one run has in common."""

    emulator: Path
    machine: str
    virttype: str
    arguments: Sequence[str]
    environment: Sequence[str]

    @property
    def is_q35(self) -> bool:
        return "q35" in self.machine


@dataclass(frozen=True)
class Domain:
    """One domain. Sizes are in MiB."""

    name: str
    memory: int = 128
    max_vcpus: int = 4
    #: qcow2 unless it ends in .raw
    disk: Path | None = None
    #: XML of more devices
    extra: str = ""
    #: XML that goes before <memory>
    max_memory: str = ""
    cpu: str = QEMU64
    on_reboot: str = "restart"
    on_crash: str = "destroy"
    #: firmware in place of the default one
    bios: Path | None = None
    arguments: Sequence[str] = ()

    def xml(self, around: Surroundings) -> str:
        """The definition that virsh takes."""
        ports = "<controller type='pci' index='0' model='pcie-root'/>"
        ports += "<controller type='pci' model='pcie-root-port'/>" * 12
        loader = f"<loader readonly='yes' type='rom'>{self.bios}</loader>" if self.bios else ""
        words = [f"<qemu:arg value='{each}'/>" for each in (*self.arguments, *around.arguments)]
        for each in around.environment:
            name, _, value = each.partition("=")
            words.append(f"<qemu:env name='{name}' value='{value}'/>")
        command_line = f"<qemu:commandline>{''.join(words)}</qemu:commandline>" if words else ""
        return f"""<domain type='{around.virttype}'
    xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{self.name}</name>
  {self.max_memory}
  <memory unit='MiB'>{self.memory}</memory><currentMemory unit='MiB'>{self.memory}</currentMemory>
  <vcpu placement='static' current='1'>{self.max_vcpus}</vcpu>
  <iothreads>1</iothreads>
  <os><type arch='x86_64' machine='{around.machine}'>hvm</type>{loader}<boot dev='hd'/></os>
  <features><acpi/><apic/></features>
  {self.cpu}
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>{self.on_reboot}</on_reboot><on_crash>{self.on_crash}</on_crash>
  <devices>
    <emulator>{around.emulator}</emulator>
    {ports if around.is_q35 else ""}
    <controller type='scsi' model='virtio-scsi'/>
    {disk(self.disk, "vda", "virtio", " discard='unmap'") if self.disk else ""}
    <interface type='user'><mac address='52:54:00:12:34:56'/><model type='virtio'/></interface>
    {CONSOLE}
    <memballoon model='virtio'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    {self.extra}
  </devices>
  {command_line}
</domain>"""


def disk(path: Path, target: str, bus: str, options: str = "") -> str:
    """A disk out of a file."""
    form = "raw" if path.suffix == ".raw" else "qcow2"
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{form}'{options}/>"
        f"<source file='{path}'/><target dev='{target}' bus='{bus}'/></disk>"
    )


def cdrom(target: str, bus: str) -> str:
    """An empty CD-ROM drive."""
    place = f"<target dev='{target}' bus='{bus}'/>"
    return f"<disk type='file' device='cdrom'>{place}<readonly/></disk>"


def rich(log: Path, vnc_port: int) -> str:
    """One of everything a desktop domain has."""
    return f"""
    <serial type='file'><source path='{log}'/><target port='1'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    {cdrom("sda", "sata")}
    <input type='tablet' bus='usb'/>
    <graphics type='vnc' port='{vnc_port}' autoport='no' listen='127.0.0.1'/>
    <video><model type='vga' vram='16384'/></video>
    <watchdog model='i6300esb' action='none'/>
    <panic model='isa'/>"""


def minimal(name: str, around: Surroundings) -> str:
    """As little hardware as libvirt allows."""
    return f"""<domain type='{around.virttype}'><name>{name}</name><memory unit='MiB'>64</memory>
<vcpu>1</vcpu><os><type arch='x86_64' machine='{around.machine}'>hvm</type></os>
<devices><emulator>{around.emulator}</emulator><controller type='usb' model='none'/>
<memballoon model='none'/></devices></domain>"""


def tap(device: str, mac: str) -> str:
    """A NIC on a tap device which libvirt makes."""
    return (
        f"<interface type='ethernet'><mac address='{mac}'/><target dev='{device}'/>"
        "<model type='virtio'/><driver name='qemu'/></interface>"
    )


def nic(mac: str) -> str:
    """A NIC on user-mode networking."""
    return f"<interface type='user'><mac address='{mac}'/><model type='virtio'/></interface>"
