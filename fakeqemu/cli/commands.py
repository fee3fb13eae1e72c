"""The commands of `fakeqemu` that run no machine as a process; imported when one is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fakeqemu.cli.options import (
    Parsed,
    UsageError,
    add_environment,
    load_profile,
    misplaced,
    number_of,
    speed_of,
    unknown,
)
from fakeqemu.cli.table import ANOTHER, COMMANDS, DEFAULT_PROFILE, NO_PROPOSAL, SHELLS, OwnOption

if TYPE_CHECKING:
    from fakeqemu.io.net_taps import TapInterfaces
    from fakeqemu.profile import Profile

T = TypeVar("T")


def as_usage_error(work: Callable[[], T]) -> T:
    """`work()`, with what is wrong in files and addresses as our own words."""
    try:
        return work()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(described(error)) from None
    except ValueError as error:
        raise UsageError(str(error)) from None


def described(error: OSError) -> str:
    """What went wrong with which file, without Python's words."""
    text = error.strerror or str(error)
    return f"{error.filename}: {text}" if error.filename is not None else text


def interfaces_of(folder: str) -> TapInterfaces:
    """The TAPs of the machines that share a directory. Raises UsageError."""
    from fakeqemu.io.net_taps import TapInterfaces

    try:
        return TapInterfaces(folder)
    except OSError as error:
        raise UsageError(f"--tap-directory: {described(error)}") from None


def _record(parsed: Parsed) -> int:
    from fakeqemu.testing.recording.cli import record

    client, real = parsed.words
    return as_usage_error(lambda: record(client, real, parsed.own.get("--output")))


def _replay(parsed: Parsed) -> int:
    if "--socket" not in parsed.own:
        raise UsageError("replay takes a file and --socket ADDRESS")
    from fakeqemu.testing.recording.cli import replay

    own = parsed.own
    return as_usage_error(
        lambda: replay(parsed.words[0], own["--socket"], own.get("--match", "order"))
    )


def _diff(parsed: Parsed) -> int:
    own = parsed.own
    profile = load_profile(own.get("--profile"), own.get("--proposal"))
    from fakeqemu.testing.recording.cli import diff

    return as_usage_error(
        lambda: diff(parsed.words[0], profile, parsed.qemu, shape_only="--shape" in own)
    )


def _fleet(parsed: Parsed) -> int:
    own = parsed.own
    add_environment("fleet", own)
    from fakeqemu.testing.fleet.cli import run_fleet

    return as_usage_error(
        lambda: run_fleet(
            parsed.words[0], own.get("--shard"), own.get("--directory"), own.get("--control")
        )
    )


def _journal(parsed: Parsed) -> int:
    own = parsed.own
    last = number_of("--last", own["--last"]) if "--last" in own else None
    kinds = own["--kind"].split(ANOTHER) if "--kind" in own else []
    from fakeqemu.testing.control.journal_cli import show_journal

    return as_usage_error(
        lambda: show_journal(
            parsed.words[0],
            follow="--follow" in own,
            last=last,
            kinds=kinds,
            machine=own.get("--machine"),
            json="--json" in own,
            token_file=own.get("--token-file"),
        )
    )


def _watch(parsed: Parsed) -> int:
    own = parsed.own
    if "--once" in own and "--web" in own:
        raise UsageError("--once prints and --web serves a page: take one of them")
    from fakeqemu.testing.control.watch import watch

    return as_usage_error(
        lambda: watch(
            parsed.words[0],
            once="--once" in own,
            web=own.get("--web"),
            token_file=own.get("--token-file"),
        )
    )


def _explain(parsed: Parsed) -> int:
    own = parsed.own
    json, as_posted = "--json" in own, "--as-posted" in own
    named = own.get("--proposal", "").split(ANOTHER)
    profiles = [
        load_profile(own.get("--profile"), None if each == NO_PROPOSAL else each)
        for each in named
    ]
    _refuse_misplaced("explain", parsed.qemu, profiles[0])
    if len(profiles) > 1:
        from fakeqemu.explain_beside import designs_of, explain_beside

        return as_usage_error(
            lambda: explain_beside(
                designs_of(profiles, parsed.qemu),
                json=json,
                as_posted=as_posted,
                out=sys.stdout,
            )
        )
    from fakeqemu.explain import explain

    return explain(parsed.qemu, profiles[0], json=json, as_posted=as_posted, out=sys.stdout)


def _check(parsed: Parsed) -> int:
    own = parsed.own
    add_environment("check", own)
    profile = load_profile(own.get("--profile"), own.get("--proposal"))
    _refuse_misplaced("check", parsed.qemu, profile)
    from fakeqemu.check import check

    folder = own.get("--tap-directory")
    return check(
        parsed.qemu,
        profile,
        interfaces=None if folder is None else interfaces_of(folder),
        as_posted="--as-posted" in own,
        out=sys.stdout,
    )


def _refuse_misplaced(command: str, qemu: list[str], profile: Profile) -> None:
    """Raise UsageError for an option of ours among QEMU's, which has none of that name."""
    takes_argument = {each.name: each.takes_argument for each in profile.command_line_options}
    words = iter(qemu)
    for word in words:
        name = word.removeprefix("-").removeprefix("-")
        if name in takes_argument:
            if word.startswith("-") and takes_argument[name]:
                next(words, None)
        elif (text := misplaced(command, qemu, word)) is not None and word.startswith("-"):
            raise UsageError(text)


def _emulator(parsed: Parsed) -> int:
    from fakeqemu.io.process.launcher import write_launcher
    from fakeqemu.profile import Profile, store

    own = parsed.own
    profile = load_profile(own.get("--profile"), own.get("--proposal"))
    speed_of(own.get("--speed", "1"))
    for option in ("--seed", "--journal-entries"):
        if option in own:
            number_of(option, own[option], negative=option == "--seed")
    extra: list[str] = []
    for option, about in COMMANDS["run"].options.items():
        if option not in own or option in ("--profile", "--proposal"):
            continue
        extra.append(option)
        if about.metavar:
            extra.append(_from_anywhere(about, own[option]))
    names = {own.get("--name", f"qemu-system-{profile.target}"): profile}
    if "--name" not in own:
        for target in store.target_profile_names():
            if target.startswith(f"{profile.name}/"):
                each = Profile.load(target)
                names[f"qemu-system-{each.target}"] = each
    try:
        for name, each in names.items():
            print(write_launcher(parsed.words[0], name, each, extra))
    except OSError as error:
        raise UsageError(f"cannot write the launcher: {described(error)}") from None
    except ValueError as error:
        raise UsageError(f"cannot write the launcher: {error}") from None
    return 0


def _from_anywhere(option: OwnOption, value: str) -> str:
    """An option's value for a launcher, which is started from any directory."""
    path = Path(value)
    if option.metavar == "ADDRESS":
        from fakeqemu.testing.control.server import control_address

        as_usage_error(lambda: control_address(value))
        kind, _, place = value.partition(":")
        return f"{kind}:{Path(place).absolute()}" if kind == "unix" else value
    # a scenario may also be a name
    is_path = option.completes in ("file", "directory") or (
        option.completes == "scenario" and path.exists()
    )
    return str(path.absolute()) if is_path else value


def _profiles(parsed: Parsed) -> int:
    from fakeqemu.profile import Profile, store

    for name in (*Profile.names(), *store.target_profile_names()):
        profile = Profile.load(name)
        version = profile.version
        mark = " (default)" if name == DEFAULT_PROFILE else ""
        composed = ", composed" if store.how_composed(profile.folder) else ""
        print(
            f"{name:12} QEMU {version.major}.{version.minor}.{version.micro:<4} "
            f"{len(profile.machines)} machine types{mark}{composed}"
        )
        if "--verbose" in parsed.own:
            for line in _about(profile):
                print(f"    {line}")
    return 0


def _about(profile: Profile) -> Iterator[str]:
    """How well it is known."""
    from fakeqemu.profile import store
    from fakeqemu.traits import TRAITS, Traits, traits_between

    recorded = profile
    while recorded.base is not None:
        recorded = recorded.base
    for part, reason in profile.missing.items():
        yield f"no {part}: {reason}"
    if (how := store.how_composed(recorded.folder)) is not None:
        yield f"composed, without a program, of {how['file']} and of {', '.join(how['bases'])}"
        for source in sorted(set(how["parts"].values())):
            parts = (part for part, each in how["parts"].items() if each == source)
            yield f"    from {source}: {', '.join(parts)}"
        for name in how["bases"][1:]:
            things = {thing for of in how["others"].values() for thing in of.get(name, ())}
            if things:
                yield f"    what {how['bases'][0]} lacks, from {name}: {', '.join(sorted(things))}"
    try:
        known = recorded.part(store.INFERRED)
    except store.MissingPartError:
        pass
    else:
        yield f"what introspection hides is carried over from {', '.join(known['from'])}"
    if recorded.name in TRAITS:
        yield "how it behaves was compared with the real program"
        return
    found = traits_between((recorded.version.major, recorded.version.minor))
    if isinstance(found, Traits):
        yield "how it behaves is taken from the nearest version that is known"
        return
    yield f"how it behaves: {len(found.dated)} traits by their release, {', '.join(found.dated)}"
    yield f"    {len(found.guessed)} as in the next older known version, {', '.join(found.guessed)}"


def _proposals(_: Parsed) -> int:
    from fakeqemu.proposals import NAMES, proposal_of

    for name in NAMES:
        proposal = proposal_of(name)
        print(f"{name:24} {proposal.summary}")
        for switch, about in proposal.switches.items():
            print(f"  :{switch}={'|'.join(about.values)}  {about.question}")
    return 0


def _completion(parsed: Parsed) -> int:
    from fakeqemu.cli.completion import completion

    shell = parsed.words[0]
    if shell not in SHELLS:
        raise unknown(shell, "shell", list(SHELLS))
    print(completion(shell), end="")
    return 0


def _man(_: Parsed) -> int:
    from fakeqemu.cli.help import manual_page

    print(manual_page(), end="")
    return 0


def _record_profile(parsed: Parsed) -> int:
    own, folder = parsed.own, Path(parsed.words[-1])
    composed = "--replies" in own
    if composed != ("--base" in own):
        raise UsageError("--replies FILE and --base PROFILE belong together")
    if composed and (len(parsed.words) > 1 or "--only" in own or "--resume" in own):
        raise UsageError("--replies stands instead of a program, and makes all parts")
    if not composed and len(parsed.words) < 2:
        raise UsageError("record-profile takes a PROGRAM and a DIRECTORY, or --replies FILE")
    try:
        return as_usage_error(lambda: _compose(own, folder) if composed else _record_parts(parsed))
    except LookupError as error:
        raise UsageError(str(error.args[0])) from None


def _compose(own: Mapping[str, str], folder: Path) -> int:
    from fakeqemu.recorder.composed import compose

    return compose(Path(own["--replies"]), folder, own["--base"], sys.stdout)


def _record_parts(parsed: Parsed) -> int:
    from fakeqemu.recorder.record import record

    program, folder = parsed.words
    only = [part for part in parsed.own.get("--only", "").split(",") if part]
    resume = "--resume" in parsed.own
    return record(program, Path(folder), only=only, resume=resume, out=sys.stdout)


CALLS: Mapping[str, Callable[[Parsed], int]] = {
    "explain": _explain,
    "check": _check,
    "emulator": _emulator,
    "journal": _journal,
    "watch": _watch,
    "record": _record,
    "replay": _replay,
    "diff": _diff,
    "fleet": _fleet,
    "record-profile": _record_profile,
    "profiles": _profiles,
    "proposals": _proposals,
    "completion": _completion,
    "man": _man,
}
