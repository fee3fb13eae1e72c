"""Option strings on a human monitor line: QemuOpts, as the command line has them.

What is reported about one whose argument letter is `O` goes to standard error, since the monitor
is not the current one yet while a line is parsed (monitor/hmp.c: monitor_parse_arguments()); a
command that parses by itself reports on the monitor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.boot.cmdline.option_groups import Groups
from fakeqemu.boot.error_report import EarlyExit, Messages
from fakeqemu.commands.hmp.arguments import HmpSyntaxError
from fakeqemu.configuration import OptionString
from fakeqemu.qapi.errors import StartupError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine


def parse_noisily(
    vm: Machine, group: str, text: str, *, implied: bool = True
) -> tuple[OptionString | None, list[str]]:
    """`text` in option group `group`, None if it is refused, and what is reported about it.

    See util/qemu-option.c: qemu_opts_parse_noisily().
    """
    messages = Messages()
    try:
        entry = Groups(vm.profile, messages).parse(group, text, "", "", implied=implied)
    except StartupError as error:
        return None, [*error.earlier, error.message]
    except EarlyExit:
        # the list of keys goes to the process's standard output, whoever asks
        return None, []
    return entry, messages.lines


def parse_argument(vm: Machine, group: str, text: str) -> OptionString:
    """An argument of letter `O`. Raises HmpSyntaxError for one that is refused."""
    entry, reported = parse_noisily(vm, group, text)
    for line in reported:
        vm.host.warn(line)
    if entry is None:
        raise HmpSyntaxError("")
    return entry


def printed(lines: list[str]) -> str:
    """Reported messages as the monitor shows them."""
    return "".join(f"{line}\n" for line in lines)
