"""The `fakeqemu` command.

Our own options come before QEMU's. An emulator is started far more often than anybody asks
for help, so nothing is imported before it is known what is wanted: the other commands are in
`cli.commands`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from fakeqemu.cli.options import (
    Parsed,
    UsageError,
    add_environment,
    in_environment,
    load_profile,
    misplaced,
    number_of,
    parse,
    speed_of,
    unknown,
)
from fakeqemu.cli.table import COMMANDS, HELP

if TYPE_CHECKING:
    from fakeqemu.clock import Clock
    from fakeqemu.io.net_taps import TapInterfaces
    from fakeqemu.model.machine import Machine
    from fakeqemu.profile import Profile
    from fakeqemu.testing.scenarios.file import ScenarioFile

#: how QEMU ends what it says of an option that it does not have
_INVALID = ": invalid option"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with arguments `argv` (default: the process's); its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _command(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        _say(str(error))
        return 2
    except BrokenPipeError:
        _forget_output(sys.stdout)
        return 1
    except OSError as error:
        from fakeqemu.cli.commands import described

        _forget_output(sys.stdout)
        _say(f"cannot write: {described(error)}")
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _command(arguments: list[str]) -> int:
    if not arguments:
        from fakeqemu.cli.help import overview

        if sys.stderr is not None:
            sys.stderr.write(overview())
        return 2
    first = arguments[0]
    if first in HELP:
        return _help("help", Parsed())
    if arguments == ["--version"]:
        from fakeqemu import __version__

        print(f"fakeqemu {__version__}")
        return 0
    if first in COMMANDS:
        return _called(first, arguments[1:])
    if first.startswith("-"):
        return _called("run", arguments)
    raise unknown(first, "command", list(COMMANDS))


def _called(command: str, arguments: list[str]) -> int:
    parsed = parse(command, arguments)
    if parsed.help or command == "help":
        return _help(command, parsed)
    if command == "run":
        return _run(parsed.own, parsed.qemu)
    if command == "fork-server":
        return _fork_server(parsed.words[0])
    from fakeqemu.cli.commands import CALLS

    if sys.stdout is None:  # the process was started with standard output closed
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    return CALLS[command](parsed)


def _help(command: str, parsed: Parsed) -> int:
    from fakeqemu.cli.help import command_help, overview

    if command == "help" and not parsed.help and parsed.words:
        command = parsed.words[0]
        if command not in COMMANDS:
            raise unknown(command, "command", list(COMMANDS))
    elif command == "help" and not parsed.help:
        print(overview(), end="")
        return 0
    print(command_help(command), end="")
    return 0


def _say(text: str) -> None:
    try:
        if sys.stderr is not None:
            sys.stderr.write(f"fakeqemu: {text}\n")
            sys.stderr.flush()
    except OSError:
        _forget_output(sys.stderr)


def _forget_output(stream: TextIO | None) -> None:
    """Nobody takes it: what the buffer keeps would be tried again when Python leaves."""
    if stream is None:
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    except (OSError, ValueError):
        pass  # no file of the process's
    finally:
        os.close(null)


def _run(own: dict[str, str], qemu: list[str]) -> int:
    import gc

    gc.disable()  # hardly anything made while starting is garbage; run_process turns it on again
    add_environment("run", own)
    scenario = _scenario(own.get("--scenario"), own.get("--seed"))
    profile = load_profile(
        own.get("--profile") or (scenario.profile if scenario else None), own.get("--proposal")
    )
    if missing := profile.missing:
        _say(f"profile {profile.name} has no {', '.join(missing)}: see its part `missing`")
    speed, clock = speed_of(own.get("--speed", "1")), _clock(own.get("--clock", "real"))
    if clock is not None and speed != 1:
        raise UsageError("--speed has no effect on a virtual clock, which only a tester moves")
    from fakeqemu.io.process.process import ProcessOptions, run_process
    from fakeqemu.journal import DEFAULT_ENTRIES

    checks = "--check-replies" in own or in_environment("FAKEQEMU_CHECK_REPLIES")
    before_boot: list[Callable[[Machine], None]] = []
    if "--journal" in own or "-v" in own or "-vv" in own:
        before_boot += _journals(own)
    if "--private-channel" in own:
        from fakeqemu.testing.runners.child import attach

        fds = [number_of("--private-channel", fd) for fd in own["--private-channel"].split(",")]
        before_boot.append(attach(fds[0], fds[1] if len(fds) > 1 else None, check=checks))
        checks = False  # the tester hears of it
    if scenario is not None:
        from fakeqemu.testing.scenarios.file import ScenarioError

        try:
            scenario.check(profile)
        except ScenarioError as error:
            raise UsageError(str(error)) from None
        before_boot.append(scenario.apply)
        qemu = [*scenario.options, *qemu]
    if "--control" in own:
        from fakeqemu.testing.control.server import serve_control

        try:
            before_boot.append(serve_control(own["--control"]))
        except ValueError as error:
            raise UsageError(str(error)) from None
    return run_process(
        qemu,
        profile,
        ProcessOptions(
            interfaces=_interfaces(own.get("--tap-directory")),
            program=own.get("--program", f"qemu-system-{profile.target}"),
            speed=speed,
            clock=clock,
            check_replies=checks,
            as_posted="--as-posted" in own,
            journal=number_of(
                "--journal-entries", own.get("--journal-entries", str(DEFAULT_ENTRIES))
            ),
            hint=lambda refused: _hint(qemu, refused),
            before_boot=before_boot,
        ),
    )


def _hint(qemu: list[str], refused: str) -> str | None:
    """What fakeqemu has to say of an option that QEMU does not have."""
    if not refused.endswith(_INVALID):
        return None
    return misplaced("run", qemu, refused.removesuffix(_INVALID))


def _journals(own: dict[str, str]) -> list[Callable[[Machine], None]]:
    """Whoever else is to get the journal as it grows. Raises UsageError."""
    from fakeqemu.testing.report.journal_output import JournalFile, say_everything, say_what_matters

    made: list[Callable[[Machine], None]] = []
    if "--journal" in own:
        try:
            made.append(JournalFile(own["--journal"]).attach)
        except OSError as error:
            from fakeqemu.cli.commands import described

            raise UsageError(f"--journal: {described(error)}") from None
    if "-vv" in own:
        made.append(say_everything)
    elif "-v" in own:
        made.append(say_what_matters)
    return made


def _scenario(path: str | None, seed: str | None) -> ScenarioFile | None:
    number = None if seed is None else number_of("--seed", seed, negative=True)
    if path is None:
        if number is not None:
            raise UsageError("--seed is for a scenario, and there is none: give --scenario, too")
        return None
    from fakeqemu.testing.scenarios.file import ScenarioError, ScenarioFile

    try:
        return ScenarioFile.load(path).seeded(number)
    except ScenarioError as error:
        raise UsageError(str(error)) from None


def _interfaces(folder: str | None) -> TapInterfaces | None:
    if folder is None:
        return None
    from fakeqemu.cli.commands import interfaces_of

    return interfaces_of(folder)


def _clock(kind: str) -> Clock | None:
    if kind == "real":
        return None
    from fakeqemu.clock import VirtualClock

    return VirtualClock()


def _fork_server(path: str) -> int:
    from fakeqemu.cli.commands import as_usage_error
    from fakeqemu.testing.runners.forkserver import listen, serve

    listener = as_usage_error(lambda: listen(path))
    return serve(listener, path, main, _profile_of)


def _profile_of(arguments: list[str]) -> Profile | None:
    """The profile that a command line asks for; None if it is wrong: reported later."""
    try:
        own = parse("run", arguments[1:] if arguments[:1] == ["run"] else arguments).own
        return load_profile(own.get("--profile"), own.get("--proposal"))
    except UsageError:
        return None
