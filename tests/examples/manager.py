"""A small VM manager: what a user of fakeqemu has under test. It knows nothing of fakeqemu."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from qemu.qmp import QMPClient
from qemu.qmp.qmp_client import ExecInterruptedError, ExecuteError


class ManagerError(Exception):
    """The manager could not do what it was asked for."""


class ManagedVm:
    """One machine behind a QMP socket."""

    def __init__(self, socket: str, patience: float = 5.0) -> None:
        self.socket = socket
        self.patience = patience
        self.reconnected = 0
        self._client: QMPClient | None = None

    async def connect(self) -> None:
        """Connect, with as many tries as fit into the patience."""
        async with asyncio.timeout(self.patience):
            while True:
                client = QMPClient("manager")
                try:
                    await client.connect(self.socket)
                except Exception:
                    await asyncio.sleep(0.01)
                    continue
                self._client = client
                return

    async def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            with contextlib.suppress(Exception):
                await self._client.disconnect()

    async def run(self, command: str, **arguments: Any) -> Any:
        """A command; after a lost connection once more on a new one."""
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        assert self._client is not None
        try:
            return await self._client.execute(command, given)
        except ExecuteError as error:
            raise ManagerError(f"{command}: {error}") from None
        except (ExecInterruptedError, ConnectionError, EOFError):
            await self.close()
            await self.connect()
            self.reconnected += 1
            assert self._client is not None
            return await self._client.execute(command, given)

    async def status(self) -> str:
        """The run state."""
        return str((await self.run("query-status"))["status"])

    async def wait(self, until: Callable[[], Awaitable[bool]]) -> None:
        """Ask until something is so."""
        async with asyncio.timeout(self.patience):
            while not await until():
                await asyncio.sleep(0.005)

    async def plug_disk(self, name: str, size: int, bus: str) -> None:
        """A new disk; nothing of it stays when it cannot be plugged."""
        await self.run("blockdev-add", driver="null-co", node_name=name, size=size)
        try:
            await self.run(
                "device_add", driver="virtio-blk-pci", id=f"dev-{name}", drive=name, bus=bus
            )
        except ManagerError:
            await self.run("blockdev-del", node_name=name)
            raise

    async def unplug_disk(self, name: str) -> None:
        """Ask the guest for a disk back; TimeoutError if it keeps it."""
        assert self._client is not None
        with self._client.listener(("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR")) as events:
            await self.run("device_del", id=f"dev-{name}")
            async with asyncio.timeout(self.patience):
                async for event in events:
                    if event["data"].get("device") != f"dev-{name}":
                        continue
                    if event["event"] != "DEVICE_DELETED":
                        raise ManagerError("the guest refuses")
                    break
        await self.run("blockdev-del", node_name=name)

    async def migrate(
        self, to: ManagedVm, uri: str, *, channels: int = 0, postcopy: bool = False
    ) -> str:
        """Move to another; the status in which it ended."""
        wanted = [
            {"capability": "multifd", "state": channels > 0},
            {"capability": "postcopy-ram", "state": postcopy},
        ]
        for vm in (self, to):
            await vm.run("migrate-set-capabilities", capabilities=wanted)
            if channels:
                await vm.run("migrate-set-parameters", multifd_channels=channels)
        await to.run("migrate-incoming", uri=uri)
        await self.run("migrate", uri=uri)
        if postcopy:
            await self.wait(self._migration_is("active"))
            await self.run("migrate-start-postcopy")
        await self.wait(self._migration_is("completed", "failed", "cancelled"))
        return str((await self.run("query-migrate"))["status"])

    async def cancel(self) -> bool:
        """Stop a migration; whether the machine still runs here."""
        await self.run("migrate_cancel")
        await self.wait(self._migration_is("cancelled", "completed", "failed"))
        return bool((await self.run("query-status"))["running"])

    def _migration_is(self, *statuses: str) -> Callable[[], Awaitable[bool]]:
        async def found() -> bool:
            return (await self.run("query-migrate")).get("status") in statuses

        return found
