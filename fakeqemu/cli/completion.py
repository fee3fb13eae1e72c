"""Completion for bash, zsh and fish, made of the one table of commands.

The scripts complete what is known without asking; names of profiles, proposals and scenarios are
those of the fakeqemu that printed them. Behind `--` files are completed.
"""

from __future__ import annotations

from fakeqemu.cli.table import COMMANDS, SHELLS, OwnOption


def completion(shell: str) -> str:
    """The script for one of `cli.table.SHELLS`."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


def _values(completes: str, choices: tuple[str, ...] = ()) -> list[str]:
    """The words that may stand there; none for files and directories."""
    if choices:
        return list(choices)
    if completes == "profile":
        from fakeqemu.profile import Profile

        return list(Profile.names())
    if completes == "proposal":
        from fakeqemu.proposals import NAMES

        return list(NAMES)
    if completes == "scenario":
        from fakeqemu.testing.scenarios.catalog import SCENARIOS

        return sorted(SCENARIOS)
    return {"shell": list(SHELLS), "command": list(COMMANDS)}.get(completes, [])


def _shown(command: str) -> dict[str, OwnOption]:
    options = COMMANDS[command].options
    return {name: option for name, option in options.items() if not option.hidden}


def _bash() -> str:
    cases = []
    for command, about in COMMANDS.items():
        values = []
        for name, option in _shown(command).items():
            if option.metavar:
                words = " ".join(_values(option.completes, option.choices))
                kind = "-d" if option.completes == "directory" else "-f"
                reply = f'compgen -W "{words}" -- "$current"' if words else ""
                if not words or option.completes == "scenario":
                    reply += ("; " if reply else "") + f'compgen {kind} -- "$current"'
                values.append(f"        {name}) mapfile -t COMPREPLY < <({reply}); return;;")
        options = " ".join([*_shown(command), "--help"])
        words = " ".join(_values(about.completes))
        rest = (
            f'compgen -W "{words}" -- "$current"' if words
            else 'compgen -d -- "$current"' if about.completes == "directory"
            else 'compgen -f -- "$current"' if about.completes or about.qemu else ":"
        )  # fmt: skip
        cases.append("\n".join([
            f"    {command})",
            '      case "$previous" in', *values, "      esac",
            '      if [[ "$current" == -* ]]; then',
            f'        mapfile -t COMPREPLY < <(compgen -W "{options}" -- "$current")',
            f"      else mapfile -t COMPREPLY < <({rest}); fi;;",
        ]))  # fmt: skip
    return "\n".join([
        "# bash completion for fakeqemu: source <(fakeqemu completion bash)",
        "_fakeqemu() {",
        '  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" word',
        "  COMPREPLY=()",
        "  if ((COMP_CWORD == 1)); then",
        f'    mapfile -t COMPREPLY < <(compgen -W "{" ".join(COMMANDS)} --help --version" '
        '-- "$current")',
        "    return",
        "  fi",
        '  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        '    if [[ "$word" == -- ]]; then',
        '      mapfile -t COMPREPLY < <(compgen -f -- "$current"); return',
        "    fi",
        "  done",
        '  case "${COMP_WORDS[1]}" in', *cases, "  esac",
        "}",
        "complete -o filenames -F _fakeqemu fakeqemu",
    ]) + "\n"  # fmt: skip


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _zsh() -> str:
    cases = []
    for command, about in COMMANDS.items():
        specs = ["'(- *)'{-h,--help}'[this help]'"]
        for name, option in _shown(command).items():
            text = option.help.replace("[", "(").replace("]", ")").replace(":", "\\:")
            spec = f"{'*' if option.repeats else ''}{name}[{text}]"
            if option.metavar:
                spec += f":{option.metavar}:{_zsh_action(option.completes, option.choices)}"
            specs.append(_quoted(spec))
        for number, word in enumerate(about.words, 1):
            name = word.strip("[]")
            specs.append(_quoted(f"{number}:{name}:{_zsh_action(about.completes)}"))
        if about.qemu:
            specs.append(_quoted("*:QEMU option:_files"))
        cases.append(f"    {command}) _arguments -S \\\n      " + " \\\n      ".join(specs) + ";;")
    commands = " ".join(_quoted(f"{name}:{about.summary}") for name, about in COMMANDS.items())
    return "\n".join([
        "#compdef fakeqemu",
        "# zsh completion for fakeqemu: source <(fakeqemu completion zsh)",
        "_fakeqemu() {",
        "  if (( CURRENT == 2 )); then",
        f"    local -a commands; commands=({commands})",
        "    _describe command commands",
        "    compadd -- --help --version",
        "    return",
        "  fi",
        "  local command=$words[2]",
        "  shift words; (( CURRENT-- ))",
        "  case $command in", *cases, "  esac",
        "}",
        "(( $+functions[compdef] )) && compdef _fakeqemu fakeqemu",
    ]) + "\n"  # fmt: skip


def _zsh_action(completes: str, choices: tuple[str, ...] = ()) -> str:
    words = _values(completes, choices)
    if completes == "scenario":
        return f'{{_alternative "n:scenario:({" ".join(words)})" "f:file:_files"}}'
    if words:
        return f"({' '.join(words)})"
    return {"directory": "_files -/", "file": "_files"}.get(completes, " ")


def _fish() -> str:
    lines = [
        "# fish completion for fakeqemu: fakeqemu completion fish | source",
        "complete -c fakeqemu -f",
        "complete -c fakeqemu -n __fish_use_subcommand -l help -s h -d 'the commands'",
        "complete -c fakeqemu -n __fish_use_subcommand -l version",
    ]
    for command, about in COMMANDS.items():
        lines.append(
            "complete -c fakeqemu -n __fish_use_subcommand -a "
            f"{command} -d {_fish_quoted(about.summary)}"
        )
        here = f"complete -c fakeqemu -n '__fish_seen_subcommand_from {command}'"
        lines.append(f"{here} -l help -s h -d 'this help'")
        for name, option in _shown(command).items():
            long = name.startswith("--")
            flag = f"-l {name[2:]}" if long else f"-{'s' if len(name) == 2 else 'o'} {name[1:]}"
            lines.append(f"{here} {flag}{_fish_value(option)} -d {_fish_quoted(option.help)}")
        words = _values(about.completes)
        if words:
            lines.append(f"{here} -a {_fish_quoted(' '.join(words))}")
        elif about.completes == "directory":
            lines.append(f"{here} -a '(__fish_complete_directories)'")
        elif about.completes or about.qemu:
            lines.append(f"{here} -F")
    return "\n".join(lines) + "\n"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_value(option: OwnOption) -> str:
    if not option.metavar:
        return ""
    words = _values(option.completes, option.choices)
    if option.completes == "scenario":
        return f" -r -F -a {_fish_quoted(' '.join(words))}"
    if words:
        return f" -x -a {_fish_quoted(' '.join(words))}"
    if option.completes == "directory":
        return " -x -a '(__fish_complete_directories)'"
    return " -r -F" if option.completes == "file" else " -x"
