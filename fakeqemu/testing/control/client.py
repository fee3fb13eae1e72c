"""A client of a control socket, without an event loop: for commands that people type."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from fakeqemu.testing.addresses import parse_address

#: seconds for connecting and for the greeting
_DEADLINE = 10.0


class ControlError(ValueError):
    """What the control socket said, or that nothing there is one."""


class ControlClient:
    """One connection. Use it with `with`."""

    def __init__(self, address: str, token: str = "") -> None:
        """Connect and negotiate. Raises OSError with the address, ControlError, ValueError."""
        self.address = address
        kind, where = parse_address(address)
        self._socket = socket.socket(socket.AF_UNIX) if kind == "unix" else None
        try:
            if self._socket is None:
                assert isinstance(where, tuple)
                self._socket = socket.create_connection(where, _DEADLINE)
            else:
                self._socket.settimeout(_DEADLINE)
                self._socket.connect(str(where))
        except OSError as error:
            self.close()
            raise OSError(error.errno, error.strerror or str(error), address) from None
        self._lines = self._socket.makefile("rb")
        try:
            greeting = self._read()
            package = greeting.get("QMP", {}).get("version", {}).get("package", "")
            if package != "fakeqemu control":
                raise ControlError(
                    f"{address} is no control socket of fakeqemu"
                    + (f" but the QMP of a {package or 'QEMU'}" if "QMP" in greeting else "")
                )
            self.ask("qmp_capabilities", **({"token": token} if token else {}))
        except TimeoutError:
            self.close()
            raise ControlError(f"{address} says nothing: no control socket of fakeqemu") from None
        except (EOFError, ConnectionResetError):
            self.close()
            raise ControlError(f"{address} hung up before it answered") from None
        except BaseException:
            self.close()
            raise

    def ask(self, command: str, /, **arguments: Any) -> Any:
        """Its return. Raises ControlError for what it refuses, EOFError when it has ended.

        A command that is to `wait` so many seconds may take so much longer.
        """
        assert self._socket is not None
        self._socket.settimeout(_DEADLINE + arguments.get("wait", 0))
        request = {"execute": command, "arguments": arguments}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            reply = self._read()
            while "event" in reply:
                reply = self._read()
        except (BrokenPipeError, ConnectionResetError):
            raise EOFError(f"{self.address} has ended") from None
        if "error" in reply:
            raise ControlError(reply["error"]["desc"])
        return reply["return"]

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise EOFError(f"{self.address} has ended")
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise ControlError(f"{self.address} is no control socket of fakeqemu")
        return message


def token_from(file: str | None) -> str:
    """What a file or the environment has. Raises OSError."""
    from fakeqemu.testing.control.server import TOKEN

    if file is None:
        return os.environ.get(TOKEN, "")
    return Path(file).read_text("utf-8", "replace").strip()
