"""Commands and options of `fakeqemu`: one table for parsing, help, completion, the manual page."""

from __future__ import annotations

from collections.abc import Mapping

from fakeqemu.dataclass import dataclass, field
from fakeqemu.journal import DEFAULT_ENTRIES

DEFAULT_PROFILE = "next"
#: what stands between the values of an option that was given more than once
ANOTHER = "\n"
#: for explain: the profile as it is, beside those with proposals
NO_PROPOSAL = "none"
#: what every command answers with its own help
HELP = ("--help", "-h")


@dataclass(frozen=True, slots=True)
class OwnOption:
    """One option of ours."""

    #: what it is for, as a sentence without its full stop
    help: str
    #: what its value is called; empty: it takes none
    metavar: str = ""
    #: the values there are, where they are few
    choices: tuple[str, ...] = ()
    #: what shells complete its value with: "file", "directory", "profile", "proposal", "scenario"
    completes: str = ""
    #: a variable that says the same where the option is not given
    environment: str = ""
    #: whether giving it again adds to it
    repeats: bool = False
    #: for machines that start machines; no help shows it
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class OwnCommand:
    """One command of ours."""

    #: what it does, in a line
    summary: str
    #: the words that it takes, in order
    words: tuple[str, ...] = ()
    #: what shells complete the words with
    completes: str = ""
    options: Mapping[str, OwnOption] = field(default_factory=dict)
    #: which QEMU options follow: "" none, "first" from the first that is not ours, "behind" `--`
    qemu: str = ""
    #: how it is called where that is not made of the rest
    usage: str = ""
    #: what else there is to say
    text: str = ""


_PROFILE = OwnOption(
    f"be this QEMU version, see `fakeqemu profiles`; default: {DEFAULT_PROFILE}",
    "PROFILE", completes="profile", environment="FAKEQEMU_PROFILE",
)  # fmt: skip
_PROPOSAL = OwnOption(
    "lay proposals over it, NAME[:SWITCH=VALUE][,NAME...], see `fakeqemu proposals`; also part of "
    "PROFILE, as 11.1+NAME",
    "NAME", completes="proposal", repeats=True,
)  # fmt: skip
_VERSION = {"--profile": _PROFILE, "--proposal": _PROPOSAL}
_AS_POSTED = OwnOption(
    "follow the early-parameters patches as they were posted, where their stated intent differs"
)
_TAPS = OwnOption(
    "see TAP interfaces that other machines have open, by a lock file for each in DIR, which "
    "exists",
    "DIR", completes="directory", environment="FAKEQEMU_TAP_DIRECTORY",
)  # fmt: skip
_CONTROL = OwnOption(
    "serve a control socket at unix:PATH or tcp:HOST:PORT: QMP with commands of our own for "
    "faults, events, time, the guest, stubs and the journal. At addresses other than the loopback "
    "its clients need the token that FAKEQEMU_CONTROL_TOKEN has",
    "ADDRESS", environment="FAKEQEMU_CONTROL",
)  # fmt: skip
_MACHINE: Mapping[str, OwnOption] = {
    "--speed": OwnOption("let the machine's clock run FACTOR times as fast", "FACTOR"),
    "--clock": OwnOption("real time, or a clock that only a tester moves", "KIND",
                      choices=("real", "virtual")),
    "--scenario": OwnOption("let happen what a scenario file says, or a scenario by its name",
                              "FILE", completes="scenario", environment="FAKEQEMU_SCENARIO"),
    "--seed": OwnOption("for what a scenario leaves to chance, in place of the file's", "NUMBER"),
    "--control": _CONTROL,
    "--tap-directory": _TAPS,
    "--journal": OwnOption(
        "write the journal to FILE as JSON lines, as it grows: [time in nanoseconds, kind, name, "
        "data]; where it is a directory, to a file of its own in it", "FILE", completes="file",
        environment="FAKEQEMU_JOURNAL"),
    "--journal-entries": OwnOption(
        f"keep the last COUNT entries of the journal in memory; default: {DEFAULT_ENTRIES}, "
        "0: all", "COUNT"),
    "--as-posted": _AS_POSTED,
    "--check-replies": OwnOption(
        "check every reply and event against the schema and stop at the first that does not match",
        environment="FAKEQEMU_CHECK_REPLIES"),
    "-v": OwnOption("say on standard error what the machine becomes and what goes wrong: run "
                    "states, migrations, jobs, events, errors, faults"),
    "-vv": OwnOption("the same of everything that the journal gets"),
}  # fmt: skip
_CLIENT: Mapping[str, OwnOption] = {
    "--token-file": OwnOption(
        "the file with the token of a control socket that wants one; default: what "
        "FAKEQEMU_CONTROL_TOKEN has", "FILE", completes="file",
    ),
}  # fmt: skip

COMMANDS: Mapping[str, OwnCommand] = {
    "run": OwnCommand(
        "run a machine", qemu="first",
        options={
            **_VERSION, **_MACHINE,
            "--program": OwnOption("the name before each message on standard error", "NAME"),
            "--private-channel": OwnOption("descriptors of a tester", "FDS", hidden=True),
        },
        text="Takes QEMU's command line and serves QMP as a real QEMU of that version would. "
             "With QEMU's options alone, `fakeqemu` does the same. `fakeqemu run -- -help` is "
             "QEMU's help.",
    ),
    "explain": OwnCommand(
        "what a start does and where each migration parameter's value comes from", qemu="first",
        options={
            **_VERSION, "--as-posted": _AS_POSTED,
            "--json": OwnOption("print it as JSON"),
        },
        usage="fakeqemu explain [OPTIONS] [--] QEMU-OPTIONS...\n"
              "       fakeqemu explain --proposal A --proposal B [OPTIONS] [--] QEMU-OPTIONS..."
              " [-- FOR-B...]",
        text="Prints the steps of the start with what each read, and every migration parameter "
             "with its value and the layer it comes from. With several --proposal (`none` is the "
             "profile itself) it prints their starts beside each other, with the same options or "
             "each with its own.",
    ),
    "check": OwnCommand(
        "what QEMU would say of a command line on this host", qemu="first",
        options={**_VERSION, "--as-posted": _AS_POSTED, "--tap-directory": _TAPS},
        text="Starts nothing, but looks at this host's files, descriptors and TAP interfaces, and "
             "prints what QEMU would say, refuse or silently break, and which options have no "
             "effect here. Exit status 1 if something is refused, not modelled or breaks somebody.",
    ),
    "emulator": OwnCommand(
        "write a program that runs this fakeqemu, for tools that want a path", ("DIRECTORY",),
        "directory",
        options={
            **_VERSION, **_MACHINE,
            "--name": OwnOption("what the program is called; default: qemu-system-TARGET", "NAME"),
        },
        text="Writes DIRECTORY/qemu-system-x86_64 and prints its path. It needs nothing of the "
             "environment it is started in. The other options are given to every machine it runs.",
    ),
    "journal": OwnCommand(
        "show what a machine did, from its control socket or from a file of --journal",
        ("ADDRESS",), "file",
        options={
            "--follow": OwnOption("go on with what happens; over a socket until the machine ends"),
            "--last": OwnOption("begin with the last COUNT entries; default: all", "COUNT"),
            "--kind": OwnOption("only entries of this kind (command, event, runstate, fault, ...)",
                             "KIND", repeats=True),
            "--machine": OwnOption("which machine, where the socket serves several", "NAME"),
            "--json": OwnOption("print JSON lines instead of lines for people"),
            **_CLIENT,
        },
        text="ADDRESS is unix:PATH or tcp:HOST:PORT of a control socket (`fakeqemu run "
             "--control`), or a file that `--journal FILE` wrote.",
    ),
    "watch": OwnCommand(
        "a live view of the machines behind a control socket", ("ADDRESS",), "file",
        options={
            "--web": OwnOption("serve it as a page at tcp:127.0.0.1:PORT", "ADDRESS"),
            "--once": OwnOption("print it once"),
            **_CLIENT,
        },
        text="Run states, migrations with what is left to send, jobs, commands a second, faults, "
             "the last lines of each journal. ADDRESS is unix:PATH or tcp:HOST:PORT.",
    ),
    "fork-server": OwnCommand(
        "a warm process that forks a machine for each request on a UNIX socket", ("SOCKET",),
        "file",
        text="For those who start many. The fixture's runner `fork` starts one by itself.",
    ),
    "record": OwnCommand(
        "write down what a client and a real QEMU say", ("CLIENT-ADDRESS", "REAL-ADDRESS"),
        options={"--output": OwnOption("write to FILE; default: standard output", "FILE",
                                    completes="file")},
        text="Listens at CLIENT-ADDRESS and passes on to REAL-ADDRESS; each is unix:PATH or "
             "tcp:HOST:PORT. Ends on SIGINT or SIGTERM.",
    ),
    "replay": OwnCommand(
        "serve a recorded conversation", ("FILE",), "file",
        options={
            "--socket": OwnOption("where to listen, unix:PATH or tcp:HOST:PORT; needed", "ADDRESS"),
            "--match": OwnOption("how requests find their answers; default: order", "HOW",
                              choices=("order", "content")),
        },
        text="Exit status 1 if anything came that was not recorded.",
    ),
    "diff": OwnCommand(
        "compare a recorded conversation with what the model says", ("FILE",), "file",
        options={**_VERSION, "--shape": OwnOption("only differences of shape, not of values")},
        qemu="behind", text="Exit status 1 if there are differences.",
    ),
    "fleet": OwnCommand(
        "run the machines of a fleet file in one process", ("FILE",), "file",
        options={
            "--shard": OwnOption("run only every Nth machine, from the Ith on (I from 0)", "I/N"),
            "--directory": OwnOption("where the sockets are; default: what the file says, or a "
                                  "temporary one", "DIR", completes="directory"),
            "--control": _CONTROL,
        },
        text="Runs until SIGINT or SIGTERM.",
    ),
    "record-profile": OwnCommand(
        "make a profile of a real QEMU, a qemu-system-* or a wrapper that ends in one",
        ("[PROGRAM]", "DIRECTORY"), "file",
        options={
            "--only": OwnOption("only these parts, separated by commas", "PARTS"),
            "--resume": OwnOption("leave parts that are there as they are"),
            "--replies": OwnOption(
                "instead of a program: what one answered to libvirt's probe, a file of libvirt's "
                "tests/qemucapabilitiesdata; the rest comes from --base",
                "FILE", completes="file"),
            "--base": OwnOption("the recorded version nearest to that, such as 8.2", "PROFILE"),
        },
        text="`--profile ./DIRECTORY` runs as it. Exit status 1 if a part could not be recorded.",
    ),
    "profiles": OwnCommand("list the QEMU versions there are", options={
        "--verbose": OwnOption("say how well each is known, and what it lacks")}),
    "proposals": OwnCommand("list the interfaces that were proposed and are in no release"),
    "completion": OwnCommand(
        "print what a shell needs to complete fakeqemu's command lines", ("SHELL",), "shell",
        text="SHELL is bash, zsh or fish: `source <(fakeqemu completion bash)`.",
    ),
    "man": OwnCommand("print the manual page: `fakeqemu man | man -l -`"),
    "help": OwnCommand("this overview, or what a command takes", ("[COMMAND]",), "command"),
}  # fmt: skip

#: variables that no option stands for
ENVIRONMENT: Mapping[str, str] = {
    "FAKEQEMU_CONTROL_TOKEN": "the token that a control socket beyond the loopback asks for",
    "FAKEQEMU_SEED": "what machines of a test suite leave to chance (see --seed)",
    "FAKEQEMU_REAL_QEMU": "the real QEMU that tests beside one use",
    "FAKEQEMU_READS": "a file that gets which members of accepted input were read",
}
SHELLS = ("bash", "zsh", "fish")
