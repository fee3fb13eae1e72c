"""-d, -D and -trace: which items and events are logged, and to which file.

No translated code runs and no event ever happens, so that what is logged stays empty; items,
events and files are judged as QEMU judges them, and the file is made. See
util/log.c: qemu_set_log_internal(); trace/control.c: trace_opt_parse().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fakeqemu.boot.cmdline.commandline import CommandLine
from fakeqemu.boot.cmdline.schema_values import HELP
from fakeqemu.boot.error_report import EarlyExit
from fakeqemu.configuration import Configuration, OptionString
from fakeqemu.model.guest.log import check_template, file_name
from fakeqemu.model.trace import matching, recorded
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import FilePlace, QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.model.host import Host

#: an item that is a pattern of trace events
_TRACE = "trace:"
#: the item that gives each thread a file of its own
_PER_THREAD = "tid"
#: bytes of a line of an events file, with its end, that are read at once
_LINE = 1023


def enable_trace(line: CommandLine, entry: OptionString) -> None:
    """-trace: the events it names. Raises StartupError, Exit.

    See trace/control.c: trace_opt_parse().
    """
    line.configuration.trace.append(entry)
    if "enable" in entry.values:
        _enable(line, entry.values["enable"], entry.location)
    path = entry.values.get("events")
    if path is None:
        return
    try:
        text = line.files.read(path)
    except OSError as error:
        line.messages.fail(str(error.strerror), FilePlace(path))
    for number, pattern in enumerate(_lines(text), 1):
        if pattern and not pattern.startswith("#"):
            _enable(line, pattern, FilePlace(f"{path}:{number}"))


def _lines(text: str) -> Iterator[str]:
    """As C's fgets() takes them, without the last byte of each, which mostly is its end."""
    for each in text.splitlines(keepends=True):
        for at in range(0, len(each), _LINE):
            yield each[at : at + _LINE][:-1]


def _enable(line: CommandLine, text: str, location: str) -> None:
    if text in HELP:
        names = reversed(recorded(line.profile)["names"])
        raise EarlyExit("".join(f"{name}\n" for name in names))
    pattern = text.removeprefix("-")
    line.configuration.trace_patterns.append(text)
    if "*" in pattern or matching(line.profile, pattern):
        return
    line.messages.warn(f"trace event '{pattern}' does not exist", location)


def open_logs(line: CommandLine) -> None:
    """-d and -D. Raises StartupError, Exit."""
    per_thread = _PER_THREAD in _items(line)
    line.configuration.log_per_thread = per_thread
    path = line.configuration.log_file
    if path is None and not per_thread:
        return
    name = _file_name(path, line.files.process_id(), per_thread=per_thread)
    # each thread makes its own with the first line that it logs
    if not per_thread:
        _create(name, line.files.create)


def create_trace_file(path: str, configuration: Configuration, host: Host) -> None:
    """-trace file=. Raises StartupError. See trace/control.c: trace_init_file()."""
    if configuration.log_per_thread:
        raise StartupError("Cannot change log filename after setting 'tid'")
    name = _file_name(path, host.monotonic_thread_id(), per_thread=False)
    _create(name, lambda name: host.create_output(name).close())


def _items(line: CommandLine) -> list[str]:
    """What -d names. Raises Exit. See util/log.c: qemu_str_to_log_mask()."""
    text = line.configuration.log_items
    if text is None:
        return []
    usage = log_usage(line.profile)
    known = [each.split()[0] for each in usage.splitlines()[1:] if each[:1].strip()]
    items = text.split(",")
    for item in items:
        if item.startswith(_TRACE) and item != _TRACE:
            _enable(line, item.removeprefix(_TRACE), "")
        elif item != "all" and item not in known:
            raise EarlyExit(usage, 1)
    return known if "all" in items else items


def log_usage(profile: Profile) -> str:
    """What `-d help` prints: what `help log` of the human monitor does, for the command line."""
    usage: str = profile.part("hmp-commands")["log"]
    lines = [each for each in usage.split("\n") if not each.startswith("none ")]
    return "\n".join(lines).replace('"log trace:help"', '"-d trace:help"')


def _file_name(path: str | None, process: int, *, per_thread: bool) -> str:
    """What a log file is called. Raises StartupError."""
    try:
        check_template(path, per_thread=per_thread)
    except QapiError as error:
        raise StartupError(error.desc) from None
    return file_name(path or "", process)


def _create(name: str, create: Callable[[str], None]) -> None:
    try:
        create(name)
    except OSError as error:
        raise StartupError(f"Error opening logfile {name}: {error.strerror}") from None
