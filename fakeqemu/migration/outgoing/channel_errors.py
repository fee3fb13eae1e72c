"""Error texts, by version, for a channel that breaks before everything is sent.

See migration/migration.c: migration_detect_error(); migration/savevm.c:
qemu_savevm_state_iterate().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.migration.outgoing.phase import ChannelBrokenError

if TYPE_CHECKING:
    from fakeqemu.migration.outgoing.outgoing import Outgoing


def report_broken_channel(run: Outgoing, error: ChannelBrokenError) -> str:
    """Warn as the version does; returns the error text that query-migrate shows."""
    text, traits, channel = error.text, run.traits, run.open_channel
    if run.status == "setup" and traits.setup_failure:
        return traits.setup_failure
    if run.vm_stop.vm_old_state is not None and run.migration.mode == "normal":
        text = traits.switchover_write_error.format(text)
    # with a return path its thread notices the end before anything is written
    unwritten = channel.multifd_channels or (error.clean and channel.return_path)
    if traits.reports_failed_section and not unwritten:
        run.vm.host.warn(
            f"failed to save SaveStateEntry with id(name): {traits.ram_section}(ram): -5"
        )
    return text
