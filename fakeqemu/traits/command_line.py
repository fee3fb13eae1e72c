"""What may differ between versions in how a process takes its options, by name.

The defaults are the newest version's.
"""

from __future__ import annotations

from fakeqemu.dataclass import dataclass
from fakeqemu.traits.migration import MigrationTraits


@dataclass(frozen=True, eq=False, repr=False)
class CommandLineTraits(MigrationTraits):
    """Traits of the options that a process is started with; see `Traits`."""

    #: an audiodev= that is not there: type, property, id
    no_audiodev: str = "audiodev '{2}' not found"
    #: -machine memory-encryption= warns that it is deprecated (11.1)
    memory_encryption_deprecated: bool = True
    #: a CXL window of an odd size
    cxl_window_size_text: str = (
        "Size of a CXL fixed memory window must be a multiple of 256MiB"
    )
    #: a keyboard layout that is not there: `could not find keymap file` (11.1)
    keymap_file_searched: bool = True
    #: -mon warns that it is deprecated (11.1)
    mon_deprecated: bool = True
    #: -audio refuses to do without a model (7.2)
    audio_needs_model: bool = False
    #: the spice options are in a module that is not installed (10.0 on)
    spice_group_missing: bool = True
    #: the address `pty:PATH` (10.0 on)
    pty_takes_path: bool = True
    #: `-nic help` lists the backends (10.0 on)
    nic_help: bool = True
    #: what is in a module that is not there comes with advice (10.0 on)
    missing_module_advice: bool = True
    #: -display egl-headless looks for a render node before there are devices (8.0 on)
    egl_before_devices: bool = True
    #: a TAP's vhost descriptor that is none is named itself, not the TAP's (10.2 on)
    tap_bad_vhost_named: bool = True
    #: -machine dumpdtb= ends a machine that has no device tree (10.0 on)
    dumpdtb_needs_tree: bool = True
    #: -fsdev has the driver of a helper program (up to 9.1)
    fsdev_proxy: bool = False
    #: exit status of `-tpmdev help`
    tpm_help_code: int = 0
    #: `help` shows default values as JSON (7.2)
    help_defaults_json: bool = False
    #: -fsdev, -virtfs: a folder that cannot be opened
    fsdev_open_text: str = "Could not open '{}': {}"
