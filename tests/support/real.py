"""The real QEMU of this host, and which version it is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache

from fakeqemu.profile import Profile


class RealQemu:
    """The program."""

    def __init__(self, binary: str) -> None:
        self.binary = binary
        done = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, check=True, timeout=60
        )
        found = re.search(r"version ((\d+\.\d+)\.\d+)", done.stdout)
        assert found is not None, done.stdout
        #: "7.2.22"
        self.full_version = found[1]
        #: "7.2"
        self.version = found[2]

    @property
    def profile(self) -> Profile | None:
        """The profile recorded from this version, if there is one."""
        for name in Profile.names(composed=False):
            profile = Profile.load(name)
            of = profile.version
            if profile.base is None and f"{of.major}.{of.minor}" == self.version:
                return profile
        return None


@cache
def find_real_qemu() -> RealQemu | None:
    """FAKEQEMU_REAL_QEMU, or qemu-system-x86_64 in PATH."""
    binary = os.environ.get("FAKEQEMU_REAL_QEMU") or shutil.which("qemu-system-x86_64")
    return None if not binary else RealQemu(binary)
