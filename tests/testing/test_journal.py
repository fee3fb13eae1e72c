"""What the journal tells of commands, whatever came between."""

from __future__ import annotations

import pytest

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


# -- the last entries only -----------------------------------------------------------------------


def test_a_journal_of_the_last_entries_counts_what_it_drops() -> None:
    journal = Journal(VirtualClock())
    heard: list[str] = []
    for number in range(3):
        journal.note("event", str(number))
    journal.keep_last(5)
    journal.listen(lambda entry: heard.append(entry.name))
    assert journal.dropped == 0
    for number in range(3, 10):
        journal.note("event", str(number))
    assert [entry.name for entry in journal] == ["5", "6", "7", "8", "9"]
    assert journal.dropped == 5
    assert heard == [str(number) for number in range(3, 10)]
    assert journal.timeline().splitlines()[0] == "(5 earlier entries are not kept)"
    assert len(journal.timeline(2).splitlines()) == 2
    journal.keep_last(2)
    assert (len(journal), journal.dropped) == (2, 8)


@pytest.mark.parametrize(
    "large", ["x" * 5000, list(range(100)), {"a": [{"b": [1, 2, 3]}] * 30}, {"k" * 9000: 1}]
)
def test_a_journal_of_the_last_entries_keeps_no_large_values(large: object) -> None:
    journal = Journal(VirtualClock())
    heard: list[object] = []
    journal.listen(lambda entry: heard.append(entry.data["value"]))
    journal.note("reply", "before", value=large)
    journal.keep_last(5)
    journal.note("reply", "x", value=large, small={"a": [1, 2]})
    before, entry = journal
    assert before.data["value"] == {"omitted": "too large for this journal"}
    assert entry.data == {"value": before.data["value"], "small": {"a": [1, 2]}}
    assert heard == [large, large]


def test_every_entry_is_kept_without_a_limit() -> None:
    journal = Journal(VirtualClock())
    for number in range(5000):
        journal.note("event", str(number), value="x" * 5000)
    assert (len(journal), journal.dropped) == (5000, 0)
