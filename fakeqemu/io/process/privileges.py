"""What a process does about itself: locks its memory, becomes another user, ends with its parent.

See os-posix.c: os_mlock() and change_process_uid(); system/vl.c: realtime_init().
A real 11.1 with exit-with-parent=on gets SIGTERM when its parent goes.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable

from fakeqemu.configuration import Configuration
from fakeqemu.profile import store
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError
from fakeqemu.qapi.readers.qemu_opts import parse_bool

#: mlockall(2)
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
#: prctl(2)
_PR_SET_PDEATHSIG = 1


def prepare(configuration: Configuration) -> None:
    """What comes before the machine: -overcommit mem-lock=, -run-with exit-with-parent=.

    Raises StartupError.
    """
    if parse_bool("exit-with-parent", configuration.run_with.get("exit-with-parent", "off")):
        _end_with_parent()
    lock = configuration.overcommit.get("mem-lock", "off")
    if lock == "on-fault" or parse_bool("mem-lock", lock):
        _lock_memory(on_fault=lock == "on-fault")


def _end_with_parent() -> None:
    parent = os.getppid()
    import ctypes  # only few starts ask for it

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) < 0:
        raise StartupError(f"Failed to set parent death signal: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        # it went before the kernel knew
        raise StartupError("", code=0)


def _lock_memory(*, on_fault: bool) -> None:
    import ctypes  # only few starts ask for it

    libc = ctypes.CDLL(None, use_errno=True)
    flags = _MCL_CURRENT | _MCL_FUTURE | (_MCL_ONFAULT if on_fault else 0)
    if libc.mlockall(flags) < 0:
        error = StartupError("locking memory failed")
        error.earlier = (f"mlockall: {os.strerror(ctypes.get_errno())}",)
        raise error


def refuse_root(root: str) -> None:
    """-chroot: what a machine is made from must stay in reach. Raises QapiError."""
    if os.path.isdir(root) and os.geteuid() == 0:  # noqa: PTH112
        raise NotModelledError("-chroot")
    raise QapiError("chroot failed")


def become(user: str) -> None:
    """Become `user`, by name or as UID:GID, for good. Raises QapiError.

    What is read later has to be in that user's reach.
    """
    import pwd

    try:
        entry = pwd.getpwnam(user)
        uid, gid, name = entry.pw_uid, entry.pw_gid, user
    except KeyError:
        found = re.match(r"([0-9]+):([0-9]+)\Z", user)
        assert found is not None, "judged when the option was read"
        uid, gid, name = int(found[1]), int(found[2]), ""
    _try(lambda: os.setgid(gid), f"Failed to setgid({gid})")
    if name:
        _try(lambda: os.initgroups(name, gid), f'Failed to initgroups("{name}", {gid})')
    else:
        _try(lambda: os.setgroups([gid]), f"Failed to setgroups(1, [{gid}])")
    _try(lambda: os.setuid(uid), f"Failed to setuid({uid})")
    try:
        os.setuid(0)
    except OSError:
        pass
    else:
        raise QapiError("Dropping privileges failed")
    own = (store.schemas_path(), __file__, os.__file__)
    if not all(os.access(path, os.R_OK) for path in own):
        raise NotModelledError("a user who may not read fakeqemu and its interpreter")


def _try(call: Callable[[], None], text: str) -> None:
    try:
        call()
    except (OSError, OverflowError):
        raise QapiError(text) from None
