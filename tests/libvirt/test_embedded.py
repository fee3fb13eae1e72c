"""libvirt's driver inside the client: no daemon, no root, no namespace, no paths of the host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.skipif(shutil.which("virsh") is None, reason="no virsh here"),
]

#: root's libvirt would run the emulator as a user that can see neither /dev/kvm nor our files
AS_OURSELVES = """user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
"""
NAME = "embedded"
COMMANDS = (
    f"start {NAME}",
    f"domstate {NAME}",
    f"domstats --balloon --vcpu {NAME}",
    f"suspend {NAME}",
    f"qemu-monitor-command {NAME} --hmp 'info status'",
    f"resume {NAME}",
    f"domstate {NAME}",
    f"attach-device {NAME} --live PLUG",
    f"detach-device {NAME} --live PLUG",
    f"destroy {NAME}",
    f"domstate --reason {NAME}",
    f"undefine {NAME}",
)


@pytest.mark.timeout(120)
def test_domain_of_the_embedded_driver(emulator: Path) -> None:
    # libvirt's sockets lie deep below it, and their paths may not be long
    with tempfile.TemporaryDirectory(prefix="embed-") as directory:
        start_and_destroy(emulator, Path(directory))


def start_and_destroy(emulator: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    if os.geteuid() == 0:
        (root / "etc").mkdir(parents=True)
        (root / "etc" / "qemu.conf").write_text(AS_OURSELVES)
    domain, plug = tmp_path / "domain.xml", tmp_path / "plug.xml"
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('[guest]\nunplug = "acknowledge"\ndelay = 0\n')
    domain.write_text(
        f"""<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>{NAME}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>{emulator}</emulator><memballoon model='virtio'/>
<controller type='pci' index='0' model='pcie-root'/>
{"<controller type='pci' model='pcie-root-port'/>" * 6}
</devices>
<qemu:commandline><qemu:env name='FAKEQEMU_SCENARIO' value='{scenario}'/></qemu:commandline>
</domain>"""
    )
    plug.write_text("<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>")
    script = "; ".join([f"define {domain}", *COMMANDS]).replace("PLUG", str(plug))

    outcome = subprocess.run(
        ["virsh", "-c", f"qemu:///embed?root={root}", script],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )

    if "Cannot find 'qemu'" in outcome.stderr or "no connection driver" in outcome.stderr:
        pytest.skip("this libvirt has no driver for QEMU")
    said = re.sub(r"\s*\n\s*", " | ", outcome.stdout.strip())
    assert "error: " not in outcome.stderr
    assert outcome.returncode == 0
    assert re.search(
        rf"defined from .*Domain '{NAME}' started \| running .*balloon.current=65536.*"
        r"suspended \| VM status: paused \| .*resumed \| running \| "
        r"Device attached successfully .*Device detached successfully "
        r".*destroyed .*shut off \(destroyed\) .*undefined",
        said,
    ), said
