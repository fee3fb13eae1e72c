"""The `fakeqemu` command.

Our own options come before QEMU's. An emulator is started far more often than anybody asks
for help, so nothing is imported before it is known what is wanted, and argv is read by hand:
argparse would take QEMU's options for its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, TypeVar

from fakeqemu.cli_options import (
    ANOTHER,
    DEFAULT_PROFILE,
    FLAGS,
    NO_PROPOSAL,
    UsageError,
    load_profile,
    number_of,
    own_options,
    speed_of,
    unknown,
)

if TYPE_CHECKING:
    from fakeqemu.clock import Clock
    from fakeqemu.io.net_taps import TapInterfaces
    from fakeqemu.model.machine import Machine
    from fakeqemu.profile import Profile
    from fakeqemu.testing.scenarios.file import ScenarioFile

T = TypeVar("T")

_USAGE = """\
usage: fakeqemu run [OPTIONS] [--] QEMU-OPTIONS...
       fakeqemu QEMU-OPTIONS...
       fakeqemu explain [--json] [OPTIONS] [--] QEMU-OPTIONS...
       fakeqemu explain [--json] --proposal A --proposal B [--] QEMU-OPTIONS... [-- FOR-B...]
       fakeqemu check [OPTIONS] [--] QEMU-OPTIONS...
       fakeqemu emulator DIRECTORY [--profile PROFILE] [--proposal NAME] [--name NAME]
       fakeqemu fork-server SOCKET
       fakeqemu record [--output FILE] -- CLIENT-ADDRESS REAL-ADDRESS
       fakeqemu replay FILE --socket ADDRESS [--match order|content]
       fakeqemu diff FILE [--profile PROFILE] [--shape] [-- QEMU-OPTIONS...]
       fakeqemu fleet FILE [--shard I/N] [--directory DIR] [--control ADDRESS]
       fakeqemu profiles | proposals
       fakeqemu --help | --version

A QEMU without the guest: takes QEMU's command line and serves QMP as a real one would.

options:
  --profile PROFILE  the QEMU version to be (see `fakeqemu profiles`); default: {default},
                     or what FAKEQEMU_PROFILE says
  --proposal NAME    lay proposals over it: NAME[:SWITCH=VALUE][,NAME...], see `fakeqemu proposals`
                     and docs/proposals.md; also part of PROFILE, as 11.1+NAME
  --as-posted        follow the early-parameters patches as they were posted, where their
                     stated intent differs
  --program NAME     the name before each message on standard error
  --speed FACTOR     let the machine's clock run FACTOR times as fast
  --clock KIND       "real", or "virtual": a clock that only a tester moves
  --scenario FILE    let happen what a scenario file says, or a scenario by its name (see
                     docs/scenarios); also FAKEQEMU_SCENARIO=FILE
  --seed NUMBER      for what a scenario leaves to chance, in place of the file's
  --control ADDRESS  serve a control socket at unix:PATH: QMP with commands of our own for
                     faults, events, time, the guest, stubs and the journal; also
                     FAKEQEMU_CONTROL=ADDRESS
  --tap-directory DIR
                     see TAP interfaces that other machines have open, by a lock file for each in
                     DIR, which exists; also FAKEQEMU_TAP_DIRECTORY=DIR
  --journal COUNT    keep the last COUNT entries of the journal (default: 2000; 0: all)
  --check-replies    check every reply and event against the schema and stop at the first
                     that does not match; also FAKEQEMU_CHECK_REPLIES=1

explain prints the steps of the start with what each read, and every migration parameter with
its value and the layer it comes from; with several --proposal (`none` is the profile itself) it
prints their starts beside each other, with the same options or each with its own. check starts
nothing either, but looks at this host's files, descriptors and (--tap-directory) TAP interfaces,
and prints what QEMU would say, refuse or silently break, and which options have no effect here;
exit status 1 if something is refused, not modelled or breaks somebody. emulator
writes DIRECTORY/qemu-system-x86_64, which runs this fakeqemu under that name for tools that want
a path. fork-server is a warm process that forks one for each request on a UNIX socket, for those
who start many (see docs/testing.md).
"""

def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with arguments `argv` (default: the process's); its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _command(arguments)
    except UsageError as error:
        sys.stderr.write(f"fakeqemu: {error}\n")
        return 2
    except BrokenPipeError:
        return 1


def _command(arguments: list[str]) -> int:
    if not arguments:
        sys.stderr.write(_usage())
        return 2
    first = arguments[0]
    if first in ("--help", "help"):
        sys.stdout.write(_usage())
        return 0
    if arguments == ["--version"]:
        from fakeqemu import __version__

        sys.stdout.write(f"fakeqemu {__version__}\n")
        return 0
    commands = {
        "run": _run,
        "explain": _explain,
        "check": _check,
        "emulator": _emulator,
        "profiles": _profiles,
        "proposals": _proposals,
        "fork-server": _fork_server,
        "record": _record,
        "replay": _replay,
        "diff": _diff,
        "fleet": _fleet,
    }
    if first in commands:
        return commands[first](arguments[1:])
    if first.startswith("-"):
        return _run(arguments)
    raise unknown(first, "command", list(commands))


def _usage() -> str:
    return _USAGE.format(default=DEFAULT_PROFILE)


def _run(arguments: list[str]) -> int:
    import gc

    gc.disable()  # hardly anything made while starting is garbage; run_process turns it on again
    own, qemu = own_options(arguments)
    _from_environment(own)
    scenario = _scenario(own.get("--scenario"), own.get("--seed"))
    profile = load_profile(
        own.get("--profile") or (scenario.profile if scenario else None), own.get("--proposal")
    )
    from fakeqemu.io.process.process import DEFAULT_JOURNAL, ProcessOptions, run_process

    checks = "--check-replies" in own or _environment("FAKEQEMU_CHECK_REPLIES")
    before_boot: list[Callable[[Machine], None]] = []
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
            program=own.get("--program", "qemu-system-x86_64"),
            speed=speed_of(own.get("--speed", "1")),
            clock=_clock(own.get("--clock", "real")),
            check_replies=checks,
            as_posted="--as-posted" in own,
            journal=number_of("--journal", own.get("--journal", str(DEFAULT_JOURNAL))),
            before_boot=before_boot,
        ),
    )


def _from_environment(own: dict[str, str]) -> None:
    """Options for those who cannot change the command line but the environment."""
    import os

    for option, name in (
        ("--scenario", "FAKEQEMU_SCENARIO"),
        ("--control", "FAKEQEMU_CONTROL"),
        ("--tap-directory", "FAKEQEMU_TAP_DIRECTORY"),
    ):
        if os.environ.get(name):
            own.setdefault(option, os.environ[name])


def _scenario(path: str | None, seed: str | None) -> ScenarioFile | None:
    number = None if seed is None else number_of("--seed", seed, negative=True)
    if path is None:
        return None
    from fakeqemu.testing.scenarios.file import ScenarioError, ScenarioFile

    try:
        return ScenarioFile.load(path).seeded(number)
    except ScenarioError as error:
        raise UsageError(str(error)) from None


def _interfaces(folder: str | None) -> TapInterfaces | None:
    if folder is None:
        return None
    from fakeqemu.io.net_taps import TapInterfaces

    try:
        return TapInterfaces(folder)
    except OSError as error:
        raise UsageError(f"--tap-directory: {_described(error)}") from None


def _clock(kind: str) -> Clock | None:
    if kind == "real":
        return None
    if kind != "virtual":
        raise unknown(kind, "clock", ["real", "virtual"])
    from fakeqemu.clock import VirtualClock

    return VirtualClock()


def _fork_server(arguments: list[str]) -> int:
    if len(arguments) != 1:
        raise UsageError("fork-server takes the path of its socket")
    from fakeqemu.testing.runners.forkserver import listen, serve

    listener = _as_usage_error(lambda: listen(arguments[0]))
    return serve(listener, arguments[0], main, _profile_of)


def _profile_of(arguments: list[str]) -> Profile | None:
    """The profile that a command line asks for; None if it is wrong, which it will be told."""
    try:
        own, _ = own_options(arguments[1:] if arguments[:1] == ["run"] else arguments)
        return load_profile(own.get("--profile"), own.get("--proposal"))
    except UsageError:
        return None


def _record(arguments: list[str]) -> int:
    own, rest = own_options(arguments, {"--output"})
    if len(rest) != 2:
        raise UsageError("record takes two addresses: the client's and the real QEMU's")
    from fakeqemu.testing.recording.cli import record

    return _as_usage_error(lambda: record(rest[0], rest[1], own.get("--output")))


def _replay(arguments: list[str]) -> int:
    own, rest = _mixed(arguments, {"--socket", "--match"})
    if len(rest) != 1 or "--socket" not in own:
        raise UsageError("replay takes a file and --socket ADDRESS")
    from fakeqemu.testing.recording.cli import replay

    return _as_usage_error(lambda: replay(rest[0], own["--socket"], own.get("--match", "order")))


def _diff(arguments: list[str]) -> int:
    own, rest = _mixed(arguments, {"--shape"})
    if not rest:
        raise UsageError("diff takes a file")
    profile = load_profile(own.get("--profile"), own.get("--proposal"))
    from fakeqemu.testing.recording.cli import diff

    return _as_usage_error(
        lambda: diff(rest[0], profile.name, rest[1:], shape_only="--shape" in own)
    )


def _fleet(arguments: list[str]) -> int:
    own, rest = _mixed(arguments, {"--shard", "--directory"})
    if len(rest) != 1:
        raise UsageError("fleet takes one file")
    from fakeqemu.testing.fleet.cli import run_fleet

    return _as_usage_error(
        lambda: run_fleet(
            rest[0], own.get("--shard"), own.get("--directory"), own.get("--control")
        )
    )


def _mixed(arguments: list[str], extra: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Options before and after the first word that is none."""
    own, rest = own_options(arguments, extra)
    if rest:
        more, behind = own_options(rest[1:], extra)
        own, rest = {**own, **more}, [rest[0], *behind]
    return own, rest


def _as_usage_error(work: Callable[[], T]) -> T:
    """`work()`, with what is wrong in files and addresses as our own words."""
    try:
        return work()
    except OSError as error:
        raise UsageError(_described(error)) from None
    except ValueError as error:
        raise UsageError(str(error)) from None


def _described(error: OSError) -> str:
    """What went wrong with which file, without Python's words."""
    text = error.strerror or str(error)
    return f"{error.filename}: {text}" if error.filename is not None else text


def _explain(arguments: list[str]) -> int:
    own, qemu = own_options(arguments, {"--json"})
    json, as_posted = "--json" in own, "--as-posted" in own
    named = own.get("--proposal", "").split(ANOTHER)
    profiles = [
        load_profile(own.get("--profile"), None if each == NO_PROPOSAL else each)
        for each in named
    ]
    if len(profiles) > 1:
        from fakeqemu.explain_beside import designs_of, explain_beside

        return _as_usage_error(
            lambda: explain_beside(
                designs_of(profiles, qemu), json=json, as_posted=as_posted, out=sys.stdout
            )
        )
    from fakeqemu.explain import explain

    return explain(qemu, profiles[0], json=json, as_posted=as_posted, out=sys.stdout)


def _check(arguments: list[str]) -> int:
    own, qemu = own_options(arguments)
    _from_environment(own)
    profile = load_profile(own.get("--profile"), own.get("--proposal"))
    from fakeqemu.check import check

    return check(
        qemu,
        profile,
        interfaces=_interfaces(own.get("--tap-directory")),
        as_posted="--as-posted" in own,
        out=sys.stdout,
    )


def _emulator(arguments: list[str]) -> int:
    own, rest = own_options(arguments, {"--name"})
    if rest:
        # the directory may stand before the options
        more, behind = own_options(rest[1:], {"--name"})
        own, rest = {**own, **more}, [rest[0], *behind]
    if len(rest) != 1:
        raise UsageError("emulator takes one directory")
    from fakeqemu.io.process.launcher import write_launcher

    profile = load_profile(own.get("--profile"), own.get("--proposal"))
    name = own.get("--name", "qemu-system-x86_64")
    extra: list[str] = [flag for flag in FLAGS if flag in own]
    for option in ("--speed", "--tap-directory"):
        if option in own:
            extra += [option, own[option]]
    try:
        path = write_launcher(rest[0], name, profile.name, extra)
    except OSError as error:
        raise UsageError(f"cannot write the launcher: {_described(error)}") from None
    sys.stdout.write(f"{path}\n")
    return 0


def _profiles(arguments: list[str]) -> int:
    if arguments:
        raise UsageError(f"profiles takes no arguments, got {arguments[0]!r}")
    from fakeqemu.profile import Profile

    for name in Profile.names():
        profile = Profile.load(name)
        version = profile.version
        mark = " (default)" if name == DEFAULT_PROFILE else ""
        sys.stdout.write(
            f"{name:8} QEMU {version.major}.{version.minor}.{version.micro:<4} "
            f"{len(profile.machines)} machine types{mark}\n"
        )
    return 0


def _proposals(arguments: list[str]) -> int:
    if arguments:
        raise UsageError(f"proposals takes no arguments, got {arguments[0]!r}")
    from fakeqemu.proposals import NAMES, proposal_of

    for name in NAMES:
        proposal = proposal_of(name)
        sys.stdout.write(f"{name:24} {proposal.summary}\n")
        for switch, about in proposal.switches.items():
            sys.stdout.write(f"  :{switch}={'|'.join(about.values)}  {about.question}\n")
    return 0


def _environment(name: str) -> bool:
    import os

    return os.environ.get(name, "") not in ("", "0")
