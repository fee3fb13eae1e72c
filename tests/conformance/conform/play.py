"""One run of one scenario against one emulator command."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from .held_time import HeldTime
from .session import STEP_TIMEOUT, Session, StepError, pause

FIRST_FD = 100  # number, in the emulator, of the first of a start step's "fds"

# Descriptor numbers are the whole process's: one start at a time hands them over. A lock is one
# event loop's, and each test has its own.
_PASSING: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class Play:
    """One run of one scenario against one emulator command."""

    def __init__(
        self,
        scenario: dict[str, Any],
        qemu: list[str],
        launch: Any = None,
        *,
        holds_time: bool = False,
    ) -> None:
        """`holds_time`: the emulator is a fakeqemu, whose time passes only in steps that wait."""
        self.scenario = scenario
        self.qemu = qemu
        #: starts the emulator in place of a new process; see `forked.launch`
        self.launch = launch
        self.dir = Path(tempfile.mkdtemp(prefix="conform-"))
        self.time = HeldTime(self.dir) if holds_time else None
        self.variables: dict[str, str] = {"dir": str(self.dir)}
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.stderr: dict[str, asyncio.Task[bytes]] = {}
        self.stdout: dict[str, asyncio.Task[bytes]] = {}
        self.sessions: dict[str, Session] = {}
        self.listeners: dict[str, socket.socket] = {}
        self.stdio: dict[str, socket.socket] = {}
        self.pairs: dict[str, socket.socket] = {}

    # -- values -----------------------------------------------------------

    def fill(self, value: Any) -> Any:
        """Replace ${dir} and ${portN} in every string of `value`.

        A list's "${qemu}" becomes the emulator command.
        """
        if isinstance(value, str):

            def replace(match: re.Match[str]) -> str:
                name = match.group(1)
                if name not in self.variables and name.startswith("port"):
                    with socket.socket() as probe:
                        probe.bind(("127.0.0.1", 0))
                        self.variables[name] = str(probe.getsockname()[1])
                return self.variables.get(name, match.group(0))

            return re.sub(r"\$\{(\w+)\}", replace, value)
        if isinstance(value, list):
            return [
                word
                for item in value
                for word in (self.qemu if item == "${qemu}" else [self.fill(item)])
            ]
        if isinstance(value, dict):
            return {self.fill(key): self.fill(item) for key, item in value.items()}
        return value

    def unfill(self, value: Any) -> Any:
        """The reverse of fill, so that a record names no path or port of one run."""
        if isinstance(value, str):
            for name, text in sorted(self.variables.items(), key=lambda kv: -len(kv[1])):
                if name.startswith("port"):
                    value = re.sub(rf"(?<!\d){text}(?!\d)", f"${{{name}}}", value)
                else:
                    value = value.replace(text, f"${{{name}}}")
            # QEMU makes node names up with a random part
            return re.sub(r"#block\d{3,}", "#blockN", value)
        if isinstance(value, list):
            return [self.unfill(item) for item in value]
        if isinstance(value, dict):
            return {key: self.unfill(item) for key, item in value.items()}
        return value

    # -- steps ------------------------------------------------------------

    async def run(self) -> list[Any]:
        """Play every step; one observed value a step, an exception where it could not be played."""
        observed: list[Any] = []
        try:
            for step in self.scenario["steps"]:
                try:
                    async with asyncio.timeout(step.get("timeout", STEP_TIMEOUT) + 5):
                        observed.append(self.unfill(await self.timed_step(self.fill(step))))
                except (
                    StepError,
                    TimeoutError,
                    OSError,
                    AssertionError,
                    KeyError,
                    AttributeError,
                    TypeError,
                    ValueError,
                    RecursionError,
                ) as exc:
                    observed.append(StepError(f"{type(exc).__name__}: {exc}"))
                    if step.get("start") or step.get("connect"):
                        break
        finally:
            await self.cleanup()
        return observed

    async def timed_step(self, step: dict[str, Any]) -> Any:
        if self.time is None:
            return await self.step(step)
        async with self.time.during(step):
            return await self.step(step)

    async def step(self, step: dict[str, Any]) -> Any:
        if "start" in step:
            return await self.start(step)
        if "sleep" in step:
            await asyncio.sleep(step["sleep"])  # the scenario's own, played as recorded
            return None
        if "exit" in step:
            return await self.exit(step)
        if "signal" in step:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.kill(self.processes[step["on"]].pid, getattr(signal, step["signal"]))
            return None
        if "write_file" in step:
            self.write_file(step)
            return None
        if "file_exists" in step:
            deadline = time.monotonic() + step.get("wait", 0)
            while not Path(step["file_exists"]).exists() and time.monotonic() < deadline:
                await pause()
            return Path(step["file_exists"]).exists()
        if "listen" in step:
            self.listen(step["listen"], step["address"])
            return None
        if "unlisten" in step:
            self.listeners.pop(step["unlisten"]).close()
            return None
        if "connect" in step:
            return await self.connect(step)
        session = self.sessions[
            step.get("on") or step.get("events") or step.get("read") or step["close"]
        ]
        if "close" in step:
            session.close()
            return None
        if "send" in step:
            fds = [self.open_fd(spec) for spec in step.get("fds", [])]
            await session.write(json.dumps(step["send"]).encode() + b"\n", fds)
            for fd in fds:
                os.close(fd)
            return self.pick(await session.reply(step.get("timeout", STEP_TIMEOUT)), step)
        if "read" in step:
            return await session.read(step.get("until"), step.get("settle", 0.3))
        if "raw" in step:
            await session.write(step["raw"].encode("latin-1") * step.get("times", 1))
            replies: list[Any] = []
            while "until_id" in step or len(replies) < step.get("replies", 1):
                reply = await session.reply(step.get("timeout", STEP_TIMEOUT))
                replies.append(session.text if step.get("lines") else reply)
                if "until_id" in step and reply.get("id") == step["until_id"]:
                    break
            return replies
        if "wait_event" in step:
            return await self.wait_event(session, step)
        if "poll" in step:
            return await self.poll(session, step)
        if "events" in step:
            return await self.drain(session, step)
        raise KeyError(f"unknown step {step}")

    @staticmethod
    def write_file(step: dict[str, Any]) -> None:
        """A symbolic link, or a file: its text, zeros up to its size, bytes at offsets."""
        path = Path(step["write_file"])
        if "symlink" in step:
            path.symlink_to(step["symlink"])
            return
        text = step.get("text", "").encode()
        with path.open("wb") as file:
            file.write(text)
            file.truncate(step.get("size", len(text)))
            for offset, data in step.get("pieces", {}).items():
                file.seek(int(offset))
                file.write(base64.b64decode(data))

    async def connect(self, step: dict[str, Any]) -> Any:
        address = step.get("address", f"{self.dir}/{step['connect']}.qmp")
        if address == "stdio":
            session = Session(self.stdio[step["connect"]])
        elif address.startswith("accept:"):
            async with asyncio.timeout(step.get("timeout", STEP_TIMEOUT)):
                sock, _ = await asyncio.get_running_loop().sock_accept(self.listeners[address[7:]])
            session = Session(sock)
        else:
            session = Session()
            await session.connect(address, self.processes.get(step["connect"]))
        self.sessions[step.get("session", step["connect"])] = session
        if not step.get("greeting", True):
            return None
        greeting = await session.line()
        if not step.get("negotiate", True):
            return {"greeting": greeting}
        await session.write(b'{"execute":"qmp_capabilities"}\n')
        return {"greeting": greeting, "reply": await session.reply()}

    @staticmethod
    def pick(reply: Any, step: dict[str, Any]) -> Any:
        """Of a long `return` list only the items and members `pick` names, or their count."""
        pick = step.get("pick")
        if pick is None or not isinstance(reply.get("return"), list):
            return reply
        items = [
            item
            for item in reply["return"]
            if all(item.get(key) in wanted for key, wanted in pick.get("where", {}).items())
        ]
        if "members" in pick:
            items = [{key: item[key] for key in pick["members"] if key in item} for item in items]
        if "count" in pick:
            return {**reply, "return": {"count": len(items)}}
        return {**reply, "return": items}

    def listen(self, name: str, address: str) -> None:
        """A socket of ours for the emulator to connect to; `connect` with accept:NAME takes one."""
        if address.startswith("tcp:"):
            host, port = address[4:].rsplit(":", 1)
            sock = socket.create_server((host, int(port)))
        else:
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(address)
            sock.listen()
        sock.setblocking(False)
        self.listeners[name] = sock

    async def start(self, step: dict[str, Any]) -> Any:
        name = step["start"]
        argv = [*self.qemu, *step.get("argv", [])]
        if self.time is not None:
            before = self.qemu.index("--")
            argv[before:before] = self.time.options(name)
        if step.get("qmp", True):
            argv += ["-qmp", f"unix:{self.dir}/{name}.qmp,server=on,wait=off"]
        stdin: Any = asyncio.subprocess.DEVNULL
        stdout: Any = asyncio.subprocess.PIPE
        if step.get("stdio"):
            self.stdio[name], stdin = socket.socketpair()
            stdout = stdin
        with contextlib.ExitStack() as ours:
            if step.get("stdio"):
                ours.enter_context(stdin)
            if "stdin" in step:
                stdin = os.open(step["stdin"], os.O_RDONLY)
                ours.callback(os.close, stdin)
            if self.launch is not None:
                fds = {}
                for number, spec in enumerate(step.get("fds", []), FIRST_FD):
                    fds[number] = self.open_fd(spec)
                    ours.callback(os.close, fds[number])
                process = await self.launch(argv, self.dir, stdin, stdout, fds)
            else:
                process = await self.launch_process(step, argv, stdin, stdout)
        assert process.stderr is not None
        self.processes[name] = process
        self.stderr[name] = asyncio.create_task(process.stderr.read())
        if not step.get("stdio"):
            assert process.stdout is not None
            self.stdout[name] = asyncio.create_task(process.stdout.read())
        return None

    async def launch_process(
        self, step: dict[str, Any], argv: list[str], stdin: Any, stdout: Any
    ) -> asyncio.subprocess.Process:
        """A new process, with the step's descriptors under their numbers."""
        async with _PASSING.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            passed = []
            for number, spec in enumerate(step.get("fds", []), FIRST_FD):
                fd = self.open_fd(spec)
                os.dup2(fd, number)
                os.close(fd)
                passed.append(number)
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=stdin,
                stdout=stdout,
                stderr=asyncio.subprocess.PIPE,
                cwd=self.dir,
                pass_fds=passed,
            )
            for number in passed:
                os.close(number)
        return process

    def open_fd(self, spec: str) -> int:
        """A descriptor to hand over.

        "pair:NAME" is one end of a socket pair the first time it is named and the other end
        the second; "file:PATH" or a path is opened to read and write, and created.
        """
        if not spec.startswith("pair:"):
            return os.open(spec.removeprefix("file:"), os.O_RDWR | os.O_CREAT, 0o600)
        name = spec.removeprefix("pair:")
        if name in self.pairs:
            return self.pairs.pop(name).detach()
        mine, self.pairs[name] = socket.socketpair()
        return mine.detach()

    async def exit(self, step: dict[str, Any]) -> Any:
        name = step["exit"]
        async with asyncio.timeout(step.get("timeout", STEP_TIMEOUT)):
            code = await self.processes[name].wait()
        result: dict[str, Any] = {"code": code}
        if step.get("stderr", True):
            stderr = await self.stderr[name]
            result["stderr"] = self.messages(stderr, step.get("warnings", False))
        if step.get("stdout", False):
            result["stdout"] = (await self.stdout[name]).decode("utf-8", "replace").splitlines()
        return result

    @staticmethod
    def messages(stderr: bytes, warnings: bool = False) -> list[str]:
        """Error lines without the program's own name in front, and no warnings unless wanted."""
        lines = []
        for raw in stderr.decode("utf-8", "replace").splitlines():
            line = re.sub(r"^[^\s:]*(qemu|fake)[^\s:]*: ", "", raw)
            line = re.sub(r"from pid \d+ \(.*\)", "from pid N (NAME)", line)
            quiet = not warnings and re.match(r"(-\S+ \S+: )?(warning|info): ", line)
            if line.strip() and not quiet:
                lines.append(line)
        return lines

    async def wait_event(self, session: Session, step: dict[str, Any]) -> Any:
        deadline = time.monotonic() + step.get("timeout", STEP_TIMEOUT)
        wanted, data = step["wait_event"], step.get("data", {})
        while True:
            for index, event in enumerate(session.events):
                found = event["event"] == wanted and all(
                    event.get("data", {}).get(key) == item for key, item in data.items()
                )
                if found:
                    del session.events[: index + 1]
                    return event
            message = await session.line(max(0.01, deadline - time.monotonic()))
            if isinstance(message, dict) and "event" in message:
                session.events.append(message)

    async def poll(self, session: Session, step: dict[str, Any]) -> Any:
        deadline = time.monotonic() + step.get("timeout", STEP_TIMEOUT)
        while True:
            await session.write(json.dumps(step["poll"]).encode() + b"\n")
            reply = await session.reply()
            value: Any = reply.get("return", {})
            if all(value.get(key) in wanted for key, wanted in step["until"].items()):
                return reply
            if time.monotonic() > deadline:
                raise StepError(f"never reached {step['until']}, last {json.dumps(reply)[:300]}")
            await pause()

    async def drain(self, session: Session, step: dict[str, Any]) -> Any:
        """Every event since the last look, after `settle` seconds of silence."""
        while True:
            try:
                message = await session.line(step.get("settle", 0.3))
            except (TimeoutError, StepError, ConnectionError):
                break
            if isinstance(message, dict) and "event" in message:
                session.events.append(message)
        events, session.events = session.events, []
        ignore = set(step.get("ignore", []))
        return [event for event in events if event["event"] not in ignore]

    async def cleanup(self) -> None:
        if self.time is not None:
            self.time.close()
        for session in self.sessions.values():
            session.close()
        for sock in [*self.listeners.values(), *self.stdio.values(), *self.pairs.values()]:
            sock.close()
        for process in self.processes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()
        for task in [*self.stderr.values(), *self.stdout.values()]:
            task.cancel()
        shutil.rmtree(self.dir, ignore_errors=True)
