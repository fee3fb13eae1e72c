"""One line of qemu-io: which command it is, what is refused before it runs, and its options.

What a command prints goes to standard output, complaints about the line to standard error; the
monitor gets only what QEMU reports as errors.

See qemu-io-cmds.c: qemuio_command() and command().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from fakeqemu.dataclass import dataclass, field
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.readers.scalars import (
    MalformedError,
    OutOfRangeError,
    parse_int64,
    parse_size,
)

if TYPE_CHECKING:
    from fakeqemu.model.block.backends.backend import Backend
    from fakeqemu.model.block.graph.node import Node
    from fakeqemu.model.block.layer import BlockLayer
    from fakeqemu.traits.fields import Traits

_INT64_MAX = (1 << 63) - 1
_BYTE_MAX = 255
#: the most that one request may transfer: BDRV_REQUEST_MAX_BYTES
REQUEST_MAX = ((1 << 31) - 1) >> 9 << 9


class RefusedError(Exception):
    """The line is over; why has been printed."""


@dataclass(frozen=True, slots=True)
class CmdInfo:
    """One command: cmdinfo_t of include/qemu-io.h."""

    name: str
    act: Callable[[QemuIoLine], None]
    alias: str = ""
    least: int = 0
    #: None: any number
    most: int | None = 0
    #: how its arguments are shown; before registered buffers, where that differed
    args: str | None = None
    args_before: str | None = None
    oneline: str = ""
    #: option letters, those with a value followed by a colon
    letters: str = ""
    #: permissions that it takes on the medium
    perm: int = 0
    #: whether `help` has more to say than this
    explained: bool = False
    #: the trait of the versions that have it; empty: all
    trait: str = ""

    def shown(self, traits: Traits) -> str | None:
        """Its arguments as a version shows them."""
        if self.args_before is not None and not traits.qemu_io_registered_buffers:
            return self.args_before
        return self.args


#: by name
_COMMANDS: dict[str, CmdInfo] = {}


def register(*commands: CmdInfo) -> None:
    """Add commands to the language."""
    _COMMANDS.update({each.name: each for each in commands})


def commands_of(traits: Traits) -> list[CmdInfo]:
    """The commands that a version has, by name."""
    found = (c for _, c in sorted(_COMMANDS.items()))
    return [each for each in found if not each.trait or getattr(traits, each.trait)]


def find(name: str, traits: Traits) -> CmdInfo | None:
    """The command of that name or short name; None if there is none."""
    return next((c for c in commands_of(traits) if name in (c.name, c.alias or c.name)), None)


@dataclass(slots=True)
class QemuIoLine:
    """A line taken apart, and what its command prints."""

    block: BlockLayer
    backend: Backend
    command: CmdInfo
    words: list[str]
    #: arguments that are no options, once `options` is through
    values: list[str] = field(default_factory=list)
    #: what the monitor prints
    answer: str = ""

    @property
    def traits(self) -> Traits:
        """How the version behaves."""
        return self.block.process.profile.traits

    @property
    def node(self) -> Node:
        """The medium. Raises QapiError where there is none."""
        if self.backend.node is None:
            raise QapiError("No medium found")
        return self.backend.node

    def say(self, text: str) -> None:
        """Print lines on standard output."""
        self.block.process.journal.note("qemu-io", text)
        self.block.process.host.print(text)

    def complain(self, text: str) -> None:
        """Print lines on standard error."""
        self.block.process.journal.note("qemu-io", text)
        self.block.process.host.say(text)

    def refuse(self, text: str) -> RefusedError:
        """Print why the line is over; what to raise."""
        self.say(text)
        return RefusedError()

    def usage(self) -> RefusedError:
        """Print how the command is used; what to raise."""
        args = self.command.shown(self.traits)
        return self.refuse(f"{self.command.name} {args} -- {self.command.oneline}")

    def options(self) -> Iterator[tuple[str, str]]:
        """Option letters with their values as getopt() finds them; the rest is `values`.

        Raises RefusedError for a letter that the command does not have.
        """
        letters = self.command.letters
        if not self.traits.qemu_io_registered_buffers:
            letters = letters.replace("r", "") if self.command.args_before else letters
        words = iter(self.words[1:])
        for word in words:
            if word == "--":
                break
            if not word.startswith("-") or word == "-":
                self.values.append(word)
                continue
            rest = word[1:]
            while rest:
                letter, rest = rest[0], rest[1:]
                at = letters.find(letter)
                if letter == ":" or at < 0:
                    self.complain(f"{self.words[0]}: invalid option -- '{letter}'")
                    raise self.usage()
                value = ""
                if letters[at + 1 : at + 2] == ":":
                    value, rest = rest or next(words, ""), ""
                    if not value:
                        why = "option requires an argument"
                        self.complain(f"{self.words[0]}: {why} -- '{letter}'")
                        raise self.usage()
                yield letter, value
        self.values.extend(words)

    def number(self, text: str | None, shown: str | None = None) -> int:
        """A size as typed. Raises RefusedError.

        See qemu-io-cmds.c: cvtnum() and print_cvtnum_err().
        """
        shown = text if shown is None else shown
        try:
            if text is None:
                raise MalformedError("")
            value = parse_size(text, self.traits)
            if value > _INT64_MAX:
                raise OutOfRangeError(text)
        except OutOfRangeError:
            raise self.refuse(f"Parsing error: argument too large -- {shown}") from None
        except MalformedError:
            why = "non-numeric argument, or extraneous/unrecognized suffix"
            raise self.refuse(f"Parsing error: {why} -- {shown}") from None
        return value

    def pattern(self, text: str) -> int:
        """A byte as typed. Raises RefusedError. See qemu-io-cmds.c: parse_pattern()."""
        try:
            value = parse_int64(text)
        except ValueError:
            value = -1
        if not 0 <= value <= _BYTE_MAX:
            raise self.refuse(f"{text} is not a valid pattern byte")
        return value

    def length(self, text: str) -> int:
        """The length of a request as typed. Raises RefusedError."""
        value = self.number(text)
        if value > REQUEST_MAX:
            raise self.refuse(f"length cannot exceed {REQUEST_MAX}, given {text}")
        return value

    def lengths(self, texts: list[str]) -> int:
        """The lengths of a vector's buffers as typed: their sum. Raises RefusedError.

        See qemu-io-cmds.c: create_iovec().
        """
        total = 0
        for text in texts:
            value = self.number(text)
            if value > REQUEST_MAX:
                raise self.refuse(f"Argument '{text}' exceeds maximum size {REQUEST_MAX}")
            if total > REQUEST_MAX - value:
                raise self.refuse(
                    f"The total number of bytes exceed the maximum size {REQUEST_MAX}"
                )
            total += value
        return total


def run(block: BlockLayer, backend: Backend, text: str) -> str:
    """Run one line; what the monitor prints of it, lines ended by a newline.

    Raises QapiError for what QEMU reports to the monitor: the medium's other users do not allow
    it, or the command cannot be done.
    """
    words = text.split(" ")
    words = [word for word in words if word]
    if not words:
        return ""
    command = find(words[0], block.process.profile.traits)
    if command is None:
        line = QemuIoLine(block, backend, _HELP, words)
        line.complain(f'command "{words[0]}" not found')
        return ""
    line = QemuIoLine(block, backend, command, words)
    if not _count_fits(line):
        return ""
    if command.perm & ~backend.perm and backend.node is not None:
        backend.set_permissions(backend.perm | command.perm, backend.shared)
    with suppress(RefusedError):
        command.act(line)
    return line.answer


def _count_fits(line: QemuIoLine) -> bool:
    command, count = line.command, len(line.words) - 1
    if count >= command.least and (command.most is None or count <= command.most):
        return True
    wanted = f"between {command.least} and {command.most}"
    if command.most is None:
        wanted = f"at least {command.least}"
    elif command.most == command.least:
        wanted = str(command.least)
    line.complain(f"bad argument count {count} to {line.words[0]}, expected {wanted} arguments")
    return False


def _help(line: QemuIoLine) -> None:
    """All commands, or one. See qemu-io-cmds.c: help_f()."""
    traits = line.traits
    if len(line.words) == 1:
        for each in commands_of(traits):
            line.say(_about(each.name, each, traits))
        line.say("\nUse 'help commandname' for extended help.")
        return
    name = line.words[1]
    found = find(name, traits)
    if found is None:
        raise line.refuse(f"command {name} not found")
    if found.explained:
        raise NotModelledError(f"qemu-io help {found.name}")
    line.say(_about(name, found, traits))


def _about(name: str, command: CmdInfo, traits: Traits) -> str:
    args = command.shown(traits)
    return f"{name} {f'{args} ' if args is not None else ''}-- {command.oneline}"


_HELP = CmdInfo(
    "help", _help, "?", most=1, args="[command]", oneline="help for one or all commands"
)
register(_HELP)
