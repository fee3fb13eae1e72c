"""The machines that are fuzzed: an empty one, a q35 and a pc with a bit of everything."""

from __future__ import annotations

from collections.abc import Sequence

from fuzzing.machine import BARE

_SIZE = 1 << 20
_DEVICES = (
    "-m", "64",
    "-blockdev", f"null-co,node-name=n0,size={_SIZE},read-zeroes=on",
    "-blockdev", "driver=raw,node-name=r0,file.driver=file,file.filename=d1.raw",
    "-chardev", "null,id=ch0", "-chardev", "ringbuf,id=ch1,size=1024",
    "-object", "memory-backend-ram,id=mem0,size=1M", "-object", "iothread,id=io0",
    "-object", "secret,id=sec0,data=abc", "-object", "throttle-group,id=tg0",
)  # fmt: skip
#: name -> command line
CONFIGS: dict[str, Sequence[str]] = {
    "none": ("-machine", "none", "-S", *BARE),
    "q35": (
        "-machine", "q35", "-S", *BARE, *_DEVICES,
        "-device", "virtio-scsi-pci,id=scsi0", "-device", "scsi-hd,drive=r0,id=hd0",
        "-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,id=nic0",
        "-device", "pcie-root-port,id=rp0,chassis=1,slot=1",
        "-device", "virtio-balloon-pci,id=bal0",
    ),
    "pc": (
        "-machine", "pc", "-S", *BARE, *_DEVICES,
        "-drive", "file=d2.raw,format=raw,if=none,id=drv0", "-device", "ide-hd,drive=drv0,id=hd0",
        "-netdev", "hubport,id=net0,hubid=0", "-device", "e1000,netdev=net0,id=nic0",
        "-device", "virtio-balloon-pci,id=bal0", "-device", "virtio-scsi-pci,id=scsi0",
        "-smp", "2,maxcpus=4",
    ),
}  # fmt: skip
#: what lies in the directory
FILES = {"d1.raw": bytes(_SIZE), "d2.raw": bytes(_SIZE)}
