"""-qtest: the server for test programs, the first of the late backends.

See system/vl.c: qemu_create_late_backends(), system/qtest.c: qtest_server_init();
chardev/char.c: qemu_chr_new_permit_mux_mon().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.boot.chardevs import chardev_options, legacy_chardev
from fakeqemu.boot.cmdline.option_groups import Groups
from fakeqemu.boot.requests import WaitForClient, Work
from fakeqemu.model.qom.tree import QomObject
from fakeqemu.qapi.errors import QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.boot.state import BootState

_LABEL = "qtest"


def create_qtest(boot: BootState, text: str, log: str | None) -> Work:
    """Make its character device and sit on it. Raises StartupError."""
    vm = boot.vm
    failure = f'Failed to initialize device for qtest: "{text}"'
    name = text.removeprefix("chardev:")
    if name == text:
        if text.startswith("mon:"):
            boot.messages.report("mon: isn't supported in this context")
            raise StartupError(failure)
        name = _LABEL
        groups = Groups(boot.profile, boot.messages)
        groups.group("chardev").given.extend(boot.configuration.chardevs)
        try:
            entry = legacy_chardev(groups, name, text, "qtest", "")
            made = [vm.chardevs.add(each) for each in chardev_options(
                entry, boot.profile, boot.messages
            )]
        except QapiError as error:
            if error.desc:
                boot.messages.report(error.desc)
            raise StartupError(failure) from None
        except StartupError as error:
            for line in error.lines:
                boot.messages.report(line)
            raise StartupError(failure) from None
        for chardev in made:
            waits = chardev.is_server and chardev.options.get("wait")
            if chardev.backend == "socket" and waits:
                yield WaitForClient(chardev)
    elif name not in vm.chardevs:
        raise StartupError(failure)
    if vm.objects.make_qtest is not None:
        vm.objects.make_qtest(name, log)
    server = QomObject("qtest", {"chardev": "string", "log": "string"})
    server.values.update(chardev=name, log=log or "")
    vm.qom.container("/machine").add_child("qtest", server)
