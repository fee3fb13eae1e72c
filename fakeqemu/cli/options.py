"""Options of `fakeqemu`, found in argv by the table and made into what they mean.

No module of a machine is imported before it is known what is wanted, and argv is read by hand: a
library would take QEMU's options for its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from fakeqemu.cli.table import ANOTHER, COMMANDS, DEFAULT_PROFILE, HELP, OwnOption
from fakeqemu.dataclass import dataclass, field

if TYPE_CHECKING:
    from fakeqemu.profile import Profile

#: of a number, so many that it fits into 64 bits
_DIGITS = 19


class UsageError(Exception):
    """The command line of fakeqemu itself is wrong; the text says how."""


@dataclass(slots=True)
class Parsed:
    """A command line of one command, taken apart."""

    #: option -> value, "" for one that takes none
    own: dict[str, str] = field(default_factory=dict)
    #: the words that the command takes
    words: list[str] = field(default_factory=list)
    #: options of QEMU's
    qemu: list[str] = field(default_factory=list)
    #: its help is asked for
    help: bool = False


def parse(command: str, arguments: list[str]) -> Parsed:
    """Take the arguments of a command apart. Raises UsageError.

    Our options may stand anywhere before `--`. Where a QEMU command line follows without `--`
    (`run`, `explain`, `check`) it begins at the first word that is not ours: QEMU takes two dashes
    where it has one, so none of ours may be one of QEMU's.
    """
    about = COMMANDS[command]
    found = Parsed()
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        index += 1
        if argument == "--":
            if about.qemu:
                found.qemu = arguments[index:]
            else:
                found.words += arguments[index:]
            break
        word, equals, value = argument.partition("=")
        option = about.options.get(word)
        if argument in HELP:
            found.help = True
        elif option is not None and option.metavar:
            if not equals:
                if index == len(arguments):
                    raise UsageError(f"{word} needs a value: {word} {option.metavar}")
                value = arguments[index]
                index += 1
            _check_choice(word, value, option)
            again = option.repeats and word in found.own
            found.own[word] = f"{found.own[word]}{ANOTHER}{value}" if again else value
        elif option is not None and not equals:
            found.own[word] = ""
        elif option is not None:
            raise UsageError(f"{word} takes no value")
        elif about.qemu == "first":
            found.qemu = arguments[index - 1 :]
            break
        elif argument.startswith("-") and len(argument) > 1:
            raise _unknown_option(command, word)
        else:
            found.words.append(argument)
    if not found.help:
        _check_words(command, found.words)
    return found


def _check_choice(word: str, value: str, option: OwnOption) -> None:
    if option.choices and value not in option.choices:
        raise unknown(value, word.removeprefix("--"), list(option.choices))


def _check_words(command: str, words: list[str]) -> None:
    wanted = COMMANDS[command].words
    needed = [word for word in wanted if not word.startswith("[")]
    if len(words) > len(wanted):
        what = " ".join(wanted) or "no words"
        raise UsageError(f"{command} takes {what}, got {words[len(wanted)]!r} too{_see(command)}")
    if len(words) < len(needed):
        raise UsageError(f"{command} takes {' '.join(needed)}{_see(command)}")


def _unknown_option(command: str, word: str) -> UsageError:
    about = COMMANDS[command]
    near = _nearest(word, _shown(about.options), cutoff=0.5)
    hint = f", did you mean {near!r}?" if near else ""
    if about.qemu:
        hint += "; QEMU's options stand behind `--`"
    else:
        where = [name for name, other in COMMANDS.items() if word in _shown(other.options)]
        if where and not near:
            hint = f", it is one of {', '.join(where)}"
    return UsageError(f"{command} has no option {word!r}{hint}{_see(command)}")


def _shown(options: Mapping[str, OwnOption]) -> list[str]:
    return [name for name, option in options.items() if not option.hidden]


def _see(command: str) -> str:
    return f" (see `fakeqemu {command} --help`)"


def misplaced(command: str, qemu: list[str], location: str) -> str | None:
    """What to do about a word that QEMU refuses as an option and that may be meant for us.

    `location` is the word; None where it is like none of ours.
    """
    word, _, _ = location.partition("=")
    options = _shown(COMMANDS[command].options)
    if word in options:
        value = f" {COMMANDS[command].options[word].metavar}".rstrip()
        first = "" if qemu[0] == location else f"{qemu[0]} "
        return (
            f"{word} is an option of fakeqemu; those stand before QEMU's: "
            f"fakeqemu {command} {word}{value} -- {first}..."
        )
    if not word.startswith("--"):
        return None
    elsewhere = [name for name, other in COMMANDS.items() if word in _shown(other.options)]
    if elsewhere:
        return f"{word} is an option of `fakeqemu {elsewhere[0]}`, `fakeqemu {command}` has none"
    near = _nearest(word, options, cutoff=0.75)
    return None if near is None else f"{word}: did you mean fakeqemu's own option {near}?"


def load_profile(name: str | None, proposals: str | None = None) -> Profile:
    """The profile called `name`, or the default, with `proposals` laid over it.

    Raises UsageError, naming the nearest.
    """
    import os

    from fakeqemu.profile import Profile

    wanted = name or os.environ.get("FAKEQEMU_PROFILE") or DEFAULT_PROFILE
    try:
        return Profile.load(wanted, (proposals or "").split(ANOTHER))
    except (LookupError, ValueError) as error:
        from fakeqemu.profile.overlay import OverlayError
        from fakeqemu.proposals import ProposalError

        if isinstance(error, ProposalError | OverlayError):
            raise UsageError(str(error)) from None
        if not isinstance(error, LookupError):
            raise
        raise unknown(wanted, "profile", Profile.names()) from None


def unknown(name: str, kind: str, known: list[str]) -> UsageError:
    """The error for a name that nothing has, with the nearest."""
    near = _nearest(name, known)
    hint = f", did you mean {near!r}?" if near else ""
    return UsageError(f"no {kind} {name!r}{hint} (there are: {', '.join(known)})")


def _nearest(name: str, known: Iterable[str], cutoff: float = 0.3) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def speed_of(text: str) -> float:
    """The value of --speed. Raises UsageError."""
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise UsageError(f"--speed takes a number above 0, got {text!r}")
    return speed


def number_of(option: str, text: str, *, negative: bool = False) -> int:
    """The number that an option takes. Raises UsageError."""
    digits = text.removeprefix("-") if negative else text
    if not (digits.isascii() and digits.isdecimal() and len(digits) < _DIGITS):
        raise UsageError(f"{option} takes a whole number, got {text[:40]!r}")
    return int(text)


def in_environment(name: str) -> bool:
    """Whether a variable switches something on."""
    import os

    return os.environ.get(name, "") not in ("", "0")


def add_environment(command: str, own: dict[str, str]) -> None:
    """Options for those who cannot change the command line but the environment."""
    import os

    for name, option in COMMANDS[command].options.items():
        if name == "--profile" or not option.metavar:
            continue  # `load_profile` asks for it last
        if option.environment and (value := os.environ.get(option.environment)):
            own.setdefault(name, value)
