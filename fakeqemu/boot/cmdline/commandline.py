"""The state of one walk over argv, and the register of what each option does.

Handlers live in `options_machine`, `options_process` and `options_devices`; `options` walks.
A handler gets the walk's state and the option's argument ("" for a flag) and records; most
judging happens later, at the boot step where QEMU judges. Options that only store are rows of
`ToGroup`, `ToConfiguration` and `ToMachine`. An option of the profile without a handler is
refused as not modelled.

See system/vl.c: qemu_init(); qemu-options.hx.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, Protocol

from fakeqemu.boot.cmdline.option_groups import Groups
from fakeqemu.boot.error_report import EarlyExit, Messages
from fakeqemu.configuration import Configuration, OptionString
from fakeqemu.dataclass import dataclass
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.keyval import parse_keyval_help

_AUDIO_VARIABLE = re.compile(r"QEMU_(AUDIO|ALSA|COREAUDIO|DSOUND|JACK|OSS|PA|SDL|WAV)_")


class Files(Protocol):
    """What the command line reads and makes in the file system. Failures are OSError."""

    def read(self, path: str) -> str:
        """The text of a configuration file."""

    def read_bytes(self, path: str) -> bytes:
        """The content of a file."""

    def open_error(self, path: str) -> str | None:
        """Why a file cannot be opened; None if it can."""

    def create(self, path: str) -> None:
        """Make a file, or empty one that is there."""

    def write_private(self, path: str, data: bytes) -> None:
        """Create or truncate a file that only its owner may read."""

    def monotonic_ns(self) -> int:
        """The host's own time, in nanoseconds from somewhere."""

    def process_id(self) -> int:
        """What stands for `%d` in the name of a log file."""

    def user_exists(self, name: str) -> bool:
        """Whether the host knows a user of that name."""

    def has_audio_environment(self) -> bool:
        """Whether variables say which audio driver to use and how."""

    def fd_inherited(self, fd: int) -> bool:
        """Whether descriptor `fd` is open and was passed to this process."""


class HostFiles:
    """The host's own file system."""

    def read(self, path: str) -> str:
        """The text of the file."""
        # a Path of "" would be the folder
        with open(path, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
            return file.read()

    def read_bytes(self, path: str) -> bytes:
        """All of it."""
        with open(path, "rb") as file:  # noqa: PTH123 - a Path of "" would be the folder
            return file.read()

    def open_error(self, path: str) -> str | None:
        """Ask the kernel."""
        import os

        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            return error.strerror
        return None

    def create(self, path: str) -> None:
        """As C's fopen() with mode "w"."""
        with open(path, "wb"):  # noqa: PTH123 - a Path of "" would be the folder
            pass

    def write_private(self, path: str, data: bytes) -> None:
        """See include/qemu/cutils.h and tcg/perf.c: safe_fopen_w()."""
        import contextlib
        import os

        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:  # noqa: PTH123
            file.write(data)

    def monotonic_ns(self) -> int:
        """Since the host was started, or some other moment, in hundredths of a second."""
        import os
        from pathlib import Path

        try:
            uptime = float(Path("/proc/uptime").read_text("ascii").split()[0])
        except OSError:
            uptime = os.times().elapsed
        return round(uptime * 100) * 10**7

    def process_id(self) -> int:
        """This process."""
        import os

        return os.getpid()

    def user_exists(self, name: str) -> bool:
        """Ask the user database."""
        import pwd

        try:
            pwd.getpwnam(name)
        except KeyError:
            return False
        return True

    def has_audio_environment(self) -> bool:
        """See audio/audio_legacy.c: audio_handle_legacy_opts() (7.2)."""
        import os

        return any(_AUDIO_VARIABLE.match(name) for name in os.environ)

    def fd_inherited(self, fd: int) -> bool:
        """Ask the kernel."""
        import os

        try:
            return os.get_inheritable(fd)
        except (OSError, OverflowError):
            return False


class CommandLine:
    """One walk over argv."""

    def __init__(
        self, profile: Profile, configuration: Configuration, messages: Messages, files: Files
    ) -> None:
        self.profile = profile
        self.configuration = configuration
        self.messages = messages
        self.files = files
        self.groups = Groups(profile, messages)
        #: the option under way, without dashes
        self.option = ""
        #: what stands before an error about it
        self.location = ""
        #: how many monitors legacy options have made
        self.compat_monitors = 0
        #: whether -mon has been called deprecated; once is enough
        self.mon_warned = False

    def fail(self, text: str, hint: str = "") -> NoReturn:
        """Refuse the option under way. Raises StartupError."""
        self.messages.fail(text, self.location, hint)

    def fail_with(self, error: QapiError) -> NoReturn:
        """Refuse the option under way with `error`. Raises StartupError."""
        self.messages.fail_with(error, self.location)

    def exit(self, stdout: str, code: int = 0) -> NoReturn:
        """Answer and leave. Raises Exit."""
        raise EarlyExit(stdout, code)

    def opts(self, group: str, text: str, *, implied: bool = True) -> OptionString:
        """Parse `text` into an option group; the option under way is blamed."""
        return self.groups.parse(group, text, self.option, self.location, implied=implied)

    def keyval(self, text: str, implied: str | None) -> tuple[dict[str, Any], bool]:
        """Parse `text` with the newer rules: the tree, and whether help was asked for."""
        try:
            return parse_keyval_help(text, implied)
        except QapiError as exc:
            self.fail_with(exc)

    def record(self, text: str, values: dict[str, Any], *, json: bool = False) -> OptionString:
        """An entry for the option under way that no group holds."""
        return OptionString(self.option, text, self.location, values, json=json)


Handler = Callable[[CommandLine, str], None]

#: in a row: the option's own argument
ARGUMENT: Final = object()


def _stored(value: object, text: str) -> Any:
    """What a row stores for an option with argument `text`."""
    return text if value is ARGUMENT else value


@dataclass(frozen=True, slots=True)
class ToGroup:
    """An option whose argument is parsed into an option group."""

    group: str
    #: whether the group's implied key holds
    implied: bool = True
    #: what is parsed in place of the option's argument
    text: object = ARGUMENT

    def __call__(self, line: CommandLine, text: str) -> None:
        """Parse it."""
        line.opts(self.group, _stored(self.text, text), implied=self.implied)


@dataclass(frozen=True, slots=True)
class ToConfiguration:
    """An option that sets an attribute of the configuration."""

    attribute: str
    value: object = ARGUMENT

    def __call__(self, line: CommandLine, text: str) -> None:
        """Set it."""
        setattr(line.configuration, self.attribute, _stored(self.value, text))


@dataclass(frozen=True, slots=True)
class ToMachine:
    """An option that is short for a property of the machine object."""

    name: str
    value: object = ARGUMENT

    def __call__(self, line: CommandLine, text: str) -> None:
        """Set it."""
        line.configuration.machine_options[self.name] = _stored(self.value, text)


def no_effect(line: CommandLine, text: str) -> None:
    """An option that changes nothing here; docs/fidelity.md says why."""


#: option name -> what it does
HANDLERS: dict[str, Handler] = {}


#: those whose argument is judged, and changes nothing here; docs/fidelity.md says why
JUDGED: set[str] = set()


def option(*names: str, judged: bool = False) -> Callable[[Handler], Handler]:
    """Register the decorated function for these options; `judged`: they have no other effect."""

    def register(function: Handler) -> Handler:
        options(dict.fromkeys(names, function))
        if judged:
            JUDGED.update(names)
        return function

    return register


def options(rows: Mapping[str, Handler]) -> None:
    """Register options: name -> what takes its argument. ValueError for one that is there."""
    for name, handler in rows.items():
        if name in HANDLERS:
            raise ValueError(f"option {name!r} is registered twice")
        HANDLERS[name] = handler
