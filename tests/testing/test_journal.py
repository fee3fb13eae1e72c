"""What the journal tells of commands, whatever came between."""

from __future__ import annotations

from fakeqemu.clock import VirtualClock
from fakeqemu.journal import Journal, line_of


def journal() -> Journal:
    clock = VirtualClock()
    made = Journal(clock)
    made.note("command", "migrate", arguments={"uri": "unix:/tmp/x/m"}, oob=False)
    clock.advance(1_500_000_000)
    made.note("command", "query-name", arguments={}, oob=False)
    made.note("reply", "query-name", value={"name": "ü"})
    made.note("error", "migrate", error_class="GenericError", desc="no")
    made.note("command", "stop", arguments={}, oob=False)
    return made


def test_commands_have_their_own_outcome() -> None:
    first, second, third = journal().commands()
    assert (first.name, first.error) == ("migrate", {"class": "GenericError", "desc": "no"})
    assert (second.value, second.time) == ({"name": "ü"}, 1_500_000_000)
    assert (third.value, third.error) == (None, None)


def test_timeline_is_for_people() -> None:
    made = journal()
    line = line_of(made.of("reply")[0])
    assert line == '    1.500000 reply        query-name  value={"name": "ü"}'
    made.note("event", "X", data={"long": "x" * 1000})
    assert made.timeline(last=1).endswith("...") and len(made.timeline(last=1)) < 220


def test_paths_of_one_run_are_not_written_down() -> None:
    made = journal()
    made.aliases["/tmp/x"] = "${dir}"
    assert '"unix:${dir}/m"' in made.to_lines() and "/tmp/x" not in made.timeline()
    again = Journal.from_lines(made.to_lines().splitlines())
    assert again.to_lines() == made.to_lines()
