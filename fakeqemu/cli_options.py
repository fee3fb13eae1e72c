"""Options of fakeqemu's own commands: found in argv, and made into what they mean.

No module of the package is imported before it is known what is wanted.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.profile import Profile

DEFAULT_PROFILE = "next"

#: options of `run` with a value, and those without
_VALUED = (
    *("--profile", "--proposal", "--program", "--speed", "--clock"),
    *("--private-channel", "--scenario", "--seed", "--control", "--journal", "--tap-directory"),
)
FLAGS = ("--as-posted", "--check-replies")
#: what stands between the values of an option that was given more than once
ANOTHER = "\n"
#: for explain: the profile as it is, beside those with proposals
NO_PROPOSAL = "none"
#: options of other commands that take a value
_EXTRA_VALUED = ("--name", "--output", "--socket", "--match", "--shard", "--directory")
#: of a number, so many that it fits into 64 bits
_DIGITS = 19


class UsageError(Exception):
    """The command line of fakeqemu itself is wrong; the text says how."""


def own_options(
    arguments: list[str], extra: Collection[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Our own options, and what follows them. `extra`: more of them than `run` has.

    Raises UsageError for an option without its value. The first word that is not ours ends
    them; QEMU takes two dashes where it has one, so none of ours may be one of QEMU's.
    """
    own: dict[str, str] = {}
    valued = {*_VALUED, *(name for name in extra if name in _EXTRA_VALUED)}
    flags = {*FLAGS, *extra} - valued
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        word, equals, value = argument.partition("=")
        if argument == "--":
            return own, arguments[index + 1 :]
        if word in valued:
            if not equals:
                index += 1
                if index >= len(arguments):
                    raise UsageError(f"{word} needs a value")
                value = arguments[index]
            # proposals add up, but to explain each is another design
            again = word == "--proposal" and word in own
            own[word] = f"{own[word]}{ANOTHER}{value}" if again else value
        elif argument in flags:
            own[argument] = ""
        else:
            break
        index += 1
    return own, arguments[index:]


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
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1, cutoff=0.3)
    hint = f", did you mean {near[0]!r}?" if near else ""
    return UsageError(f"no {kind} {name!r}{hint} (there are: {', '.join(known)})")


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
