"""Character devices that come in modules of their own, and get no further here.

See chardev/baum.c: baum_chr_open(); chardev/spice.c: qemu_chr_open_spice_vmc() and
qemu_chr_open_spice_port(); util/module.c: module_load_qom().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import ChardevOptions

#: channels of SPICE that a guest's device can be, in its library
_CHANNELS = ("vdagent", "smartcard", "usbredir", "port")


def refuse(options: ChardevOptions) -> None:
    """Raise QapiError: what QEMU says where no daemon for braille and no SPICE server runs."""
    match options.backend:
        case "braille":
            raise QapiError("brlapi__openConnection: connect: No such file or directory")
        case "spiceport":
            raise QapiError("spice not enabled")
        case "spicevmc" if (channel := options.options["type"]) not in _CHANNELS:
            raise QapiError(f"unsupported type name: {channel}")
    raise NotModelledError(f"chardev {options.backend}")
