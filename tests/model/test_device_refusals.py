"""What devices need of each other and of the host, in the words of real ones."""

from pathlib import Path

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu

BLOCK = ("-blockdev", "null-co,node-name=n")
THREADS = ("-object", "iothread,id=i", "-object", "iothread,id=j")


async def refusal(*argv, profile="10.0", machine="q35"):
    with pytest.raises(StartupError) as caught:
        async with FakeQemu("-machine", machine, "-nodefaults", *argv, profile=profile):
            pass
    error = caught.value
    return [line.removeprefix(f"{error.location}: ") for line in error.lines]


def block_device(mapping, more=""):
    queues = '"num-queues":2,' if "vqs" in mapping else ""
    return (
        f'{{"driver":"virtio-blk-pci","drive":"n",{queues}{more}'
        f'"iothread-vq-mapping":[{mapping}]}}'
    )


@pytest.mark.parametrize(
    ("mapping", "more", "text"),
    [
        ('{"iothread":"k"}', "", 'IOThread "k" object does not exist'),
        ('{"iothread":"i"},{"iothread":"i"}', "",
         'duplicate IOThread name "i" in iothread-vq-mapping'),
        ('{"iothread":"i","vqs":[0]},{"iothread":"j"}', "",
         "either all items in iothread-vq-mapping must have vqs or none of them must have it"),
        ('{"iothread":"i","vqs":[0]}', "",
         "missing vq 1 IOThread assignment in iothread-vq-mapping"),
        ('{"iothread":"i","vqs":[0,2]}', "", 'vq index 2 for IOThread "i" must be less than '
         "num_queues 2 in iothread-vq-mapping"),
        ('{"iothread":"i","vqs":[0,0]}', "", 'cannot assign vq 0 to IOThread "i" because it is '
         "already assigned"),
        ('{"iothread":"i"}', '"iothread":"j",',
         "iothread and iothread-vq-mapping properties cannot be set at the same time"),
    ],
)  # fmt: skip
async def test_queues_without_an_iothread(mapping, more, text):
    argv = (*THREADS, *BLOCK, "-device", block_device(mapping, more))
    assert await refusal(*argv) == [text]


@pytest.mark.parametrize("profile", ["10.0", "11.1"])
@pytest.mark.parametrize(
    ("given", "text"),
    [
        ('"iothread-vq-mapping":[{"iothread":"k"}]', 'IOThread "k" object does not exist'),
        ('"iothread-vq-mapping":[{"iothread":"i"}],"iothread":"j"',
         "iothread and iothread-vq-mapping properties cannot be set at the same time"),
        ('"num_queues":2,"iothread-vq-mapping":[{"iothread":"i","vqs":[0,2]}]',
         'vq index 2 for IOThread "i" must be less than num_queues 2 in iothread-vq-mapping'),
        ('"iothread-vq-mapping":[{"iothread":"i","vqs":[3]}]',
         'vq index 3 for IOThread "i" must be less than num_queues 1 in iothread-vq-mapping'),
    ],
)  # fmt: skip
async def test_queues_of_scsi_without_an_iothread(given, text, profile):
    device = f'{{"driver":"virtio-scsi-pci",{given}}}'
    assert await refusal(*THREADS, "-device", device, profile=profile) == [text]


async def test_queues_of_scsi_with_iothreads():
    mapping = [{"iothread": "i"}, {"iothread": "j"}]
    async with FakeQemu("-machine", "pc", "-nodefaults", *THREADS, profile="11.1") as machine:
        device = {"driver": "virtio-scsi-pci", "id": "d", "iothread-vq-mapping": mapping}
        await machine.qmp("device_add", device)
        where = {"path": "d", "property": "iothread-vq-mapping"}
        assert await machine.qmp("qom-get", where) == mapping


PORT = ("-device", "pcie-root-port,id=r,chassis=1")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("-device", "virtio-net-pci,sriov-pf=x"), "PCI Express is required for SR-IOV VF"),
        (("-device", "virtio-rng-pci,sriov-pf=x"),
         "user cannot create SR-IOV VF with this device type"),
        ((*PORT, "-device", "virtio-net-pci,bus=r,sriov-pf=x"),
         "fakeqemu does not model 'virtio-net-pci.sriov-pf'"),
    ],
)  # fmt: skip
async def test_virtual_functions(argv, text):
    assert await refusal(*argv, profile="11.1") == [text]


async def test_queues_of_iothreads():
    mapping = '{"iothread":"i","vqs":[1]},{"iothread":"j","vqs":[0]}'
    device = block_device(mapping, '"id":"d",')
    async with FakeQemu(*THREADS, *BLOCK, "-device", device, profile="10.0") as machine:
        where = {"path": "d", "property": "iothread-vq-mapping"}
        assert await machine.qmp("qom-get", where) == [
            {"iothread": "i", "vqs": [1]}, {"iothread": "j", "vqs": [0]}
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "argv", "lines"),
    [
        ("10.0", ("-device", "virtio-rng-pci,iommu_platform=on"),
         ["VIRTIO_F_IOMMU_PLATFORM was supported by neither legacy nor transitional device"]),
        ("10.0", ("-device", "virtio-net-pci,tx_queue_size=512"),
         ["Invalid tx_queue_size (= 512), must be a power of 2 between 256 and 256"]),
        ("7.2", ("-device", "virtio-net-pci,tx_queue_size=64"),
         ["Invalid tx_queue_size (= 64), must be a power of 2 between 256 and 1024"]),
        ("10.0", ("-blockdev", "ssh,path=/x,server.host=h,server.port=22,node-name=a"),
         ["Unable to load module ssh. Perhaps you want to install qemu-block-extra or "
          "qemu-block-supplemental package?", "Unknown driver 'ssh'"]),
        ("10.0", ("-object", "memory-backend-ram,id=m,size=1M,host-nodes=99,policy=bind"),
         ["cannot bind memory to host NUMA nodes: Invalid argument"]),
        ("10.0", ("-usb", "-device", "usb-host,hostdevice=/nosuch"),
         ["Could not open '/nosuch': No such file or directory"]),
        ("7.2", ("-usb", "-device", "usb-host,hostdevice=/nosuch"),
         ["failed to open /nosuch: No such file or directory"]),
        ("10.0", ("-usb", "-device", "usb-host,hostbus=99,hostaddr=6"),
         ["failed to find host usb device 99:6"]),
        ("10.0", ("-usb", "-device", "usb-mtp,rootdir=/nosuch"),
         ["usb-mtp: rootdir does not exist/not readable"]),
        ("10.0", ("-usb", "-device", "usb-ccid", "-device", "ccid-card-emulated"),
         ["ccid-card-emulated: failed to initialize vcard"]),
        ("10.0", ("-device", "virtio-input-host-pci,evdev=/nosuch"),
         ["Could not open '/nosuch': No such file or directory"]),
        ("10.0", ("-device", f"virtio-input-host-pci,evdev={__file__}"),
         [f"{__file__}: is not an evdev device"]),
        ("11.1", ("-device", "edu,busnr=1"), ["Property 'edu.busnr' is not writable"]),
        ("7.2", ("-device", "virtio-balloon,guest-stats=1"),
         ["Property 'virtio-balloon-device.guest-stats' is not writable"]),
        ("10.0", ("-device", "virtio-balloon,virtio-backend=x"),
         ["Property 'virtio-balloon-pci.virtio-backend' is not writable"]),
        ("7.2", ("-device", "qemu-xhci", "-device", "usb-tablet,attached=on"),
         ["Property 'usb-tablet.attached' is not writable"]),
        ("10.0", (*BLOCK, "-device", "ide-hd,drive=n,bios-chs-trans=x"),
         ["Parameter 'bios-chs-trans' does not accept value 'x'"]),
        ("10.0", ("-netdev", "user,id=n,guestfwd=tcp:10.0.2.1:46-chardev:nosuch"),
         ["Could not open guest forwarding device 'guestfwd.tcp.46'"]),
    ],
)  # fmt: skip
async def test_refusals(profile, argv, lines):
    assert await refusal(*argv, profile=profile, machine="pc") == lines


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
async def test_a_policy_for_lost_ticks(profile):
    given = ("-global", "mc146818rtc.lost_tick_policy=slew")
    async with FakeQemu("-machine", "pc", *given, profile=profile) as machine:
        assert (await machine.qmp("query-status"))["status"] == "running"
    said = await refusal("-global", "mc146818rtc.lost_tick_policy=x", profile=profile)
    assert said[-1].endswith("Parameter 'lost_tick_policy' does not accept value 'x'")


async def test_a_guest_forwarding_takes_a_character_device_along():
    words = ("-chardev", "null,id=c", "-netdev", "user,id=n,guestfwd=tcp:10.0.2.1:46-chardev:c")
    async with FakeQemu("-machine", "pc", "-nodefaults", *words) as machine:
        await machine.qmp("netdev_del", {"id": "n"})
        assert all(each["label"] != "c" for each in await machine.qmp("query-chardev"))


async def test_an_agent_for_the_clipboard():
    words = ("-chardev", "qemu-vdagent,id=c,clipboard=on,mouse=off")
    async with FakeQemu("-machine", "none", *words, profile="10.0") as machine:
        shown = {each["label"]: each["filename"] for each in await machine.qmp("query-chardev")}
        assert shown["c"] == "qemu-vdagent"


@pytest.mark.skipif(Path("/dev/udmabuf").exists(), reason="this host shares buffers")
async def test_shared_buffers_of_a_display():
    said = await refusal("-device", "virtio-gpu-pci,blob=on")
    assert said[-1] == "need rutabaga or udmabuf for blob resources"
    assert said[0].endswith("warning: open /dev/udmabuf: No such file or directory")
