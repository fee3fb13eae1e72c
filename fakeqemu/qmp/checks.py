"""Each reply and event of a machine, checked against the schema as it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fakeqemu.qapi.validate import SchemaViolation, check_event, check_reply

if TYPE_CHECKING:
    from fakeqemu.journal import JournalEntry
    from fakeqemu.model.machine import Machine


def check_everything(
    vm: Machine,
    complain: Callable[[SchemaViolation], None] | None = None,
    excused: Callable[[JournalEntry], bool] | None = None,
) -> None:
    """Check from now on; a violation is raised where it happens, or given to `complain`.

    Entries that are `excused` are not looked at.
    """
    schema = vm.profile.schema

    def check(entry: JournalEntry) -> None:
        if excused is not None and excused(entry):
            return
        try:
            if entry.kind == "reply":
                check_reply(schema, entry.name, entry.data["value"])
            elif entry.kind == "event":
                check_event(schema, entry.name, entry.data.get("data"))
        except SchemaViolation as violation:
            if complain is None:
                raise
            complain(violation)

    vm.journal.listen(check)
