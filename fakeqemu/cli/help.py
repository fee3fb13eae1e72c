"""What `fakeqemu --help`, the help of each command and the manual page say, from one table."""

from __future__ import annotations

import textwrap

from fakeqemu import __version__
from fakeqemu.cli.table import COMMANDS, ENVIRONMENT, OwnCommand, OwnOption

_WIDTH = 88
#: where the second column of a list begins
_COLUMN = 24
_ABOUT = "A QEMU without the guest: takes QEMU's command line and serves QMP as a real one would."


def overview() -> str:
    """The commands there are."""
    rows = [(name, about.summary) for name, about in COMMANDS.items()]
    return (
        "usage: fakeqemu COMMAND [OPTIONS] ...\n"
        "       fakeqemu [OPTIONS] [--] QEMU-OPTIONS...\n"
        "       fakeqemu --help | --version\n\n"
        f"{_wrapped(_ABOUT)}\n\ncommands:\n{_rows(rows)}\n"
        "`fakeqemu COMMAND --help` tells what one takes. Options of fakeqemu stand before QEMU's,\n"
        "with `--` between them where it matters.\n"
    )


def command_help(name: str) -> str:
    """What one command takes."""
    about = COMMANDS[name]
    parts = [f"usage: {usage(name)}", _wrapped(_sentence(about.summary))]
    if about.text:
        parts.append(_wrapped(about.text))
    parts.append(f"options:\n{_rows(_option_rows(about))}")
    return "\n\n".join(parts)


def usage(name: str) -> str:
    """How a command is called."""
    about = COMMANDS[name]
    if about.usage:
        return about.usage
    words = ["fakeqemu", name, *about.words]
    if any(not option.hidden for option in about.options.values()):
        words.append("[OPTIONS]")
    if about.qemu == "first":
        words += ["[--]", "QEMU-OPTIONS..."]
    elif about.qemu == "behind":
        words += ["[--", "QEMU-OPTIONS...]"]
    return " ".join(words)


def manual_page() -> str:
    """fakeqemu(1), for man."""
    lines = [
        f'.TH FAKEQEMU 1 "" "fakeqemu {__version__}" "User Commands"',
        ".SH NAME", "fakeqemu \\- a QEMU without the guest",
        ".SH SYNOPSIS",
    ]  # fmt: skip
    for name in COMMANDS:
        for line in usage(name).split("\n"):
            lines += [".B " + _roff(line.strip()), ".br"]
    lines += [
        ".B fakeqemu \\-\\-version",
        ".SH DESCRIPTION", _roff(_ABOUT),
        "Options of fakeqemu stand before QEMU's.",
        ".SH COMMANDS",
    ]  # fmt: skip
    for name, about in COMMANDS.items():
        lines += [f".SS {_roff(name)}", _roff(f"{_sentence(about.summary)} {about.text}".strip())]
        for option, text in _option_rows(about):
            lines += [".TP", f".B {_roff(option)}", _roff(text)]
    lines += [".SH ENVIRONMENT"]
    for variable, text in environment().items():
        lines += [".TP", f".B {variable}", _roff(text)]
    lines += [
        ".SH EXIT STATUS",
        "That of the machine; 2 where a command line of fakeqemu itself is wrong.",
    ]
    return "\n".join(lines) + "\n"


def environment() -> dict[str, str]:
    """Every variable and what it says."""
    found: dict[str, str] = {}
    for name, about in COMMANDS.items():
        for option, what in about.options.items():
            if what.environment:
                found.setdefault(what.environment, f"the same as {option} of {name}")
    return {**found, **ENVIRONMENT}


def _option_rows(about: OwnCommand) -> list[tuple[str, str]]:
    rows = [
        (f"{name} {option.metavar}".rstrip(), _option_text(option))
        for name, option in about.options.items()
        if not option.hidden
    ]
    return [*rows, ("-h, --help", "this help")]


def _option_text(option: OwnOption) -> str:
    text = option.help
    if option.choices:
        text += f" ({', '.join(option.choices)})"
    if option.repeats:
        text += "; may be given more than once"
    if option.environment:
        text += f"; also {option.environment}"
    return text


def _rows(rows: list[tuple[str, str]]) -> str:
    out = []
    for left, right in rows:
        lines = textwrap.wrap(right, _WIDTH - _COLUMN)
        head = f"  {left}"
        if len(head) >= _COLUMN:
            out.append(head)
        else:
            out.append(f"{head:{_COLUMN}}{lines.pop(0)}")
        out += [f"{'':{_COLUMN}}{line}" for line in lines]
    return "\n".join(out) + "\n"


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, _WIDTH))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
