"""Executes commands: checks in QEMU's order, the command's function, the checked reply.

There is one dispatcher for all QMP monitors of a machine; its `request_loop` says whose request
is next.

See qapi/qmp-dispatch.c: qmp_dispatch() and qmp_dispatch_check_obj().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.commands.registry import COMMANDS, Deferred, keyword_of
from fakeqemu.qapi import reads, texts
from fakeqemu.qapi.errors import (
    AbortError,
    CommandNotFoundError,
    NotModelledError,
    QapiError,
)
from fakeqemu.qapi.json.streamer import Message, ParseError, Value
from fakeqemu.qapi.policy import CompatPolicy, hide_output, hide_schema
from fakeqemu.qapi.schema import CommandInfo
from fakeqemu.qapi.visitor import Walk, check_arguments, walk_arguments
from fakeqemu.qmp.events import EventQueue
from fakeqemu.qmp.request import Request, parse_request
from fakeqemu.qmp.request_loop import RequestLoop
from fakeqemu.qmp.session import Line, QmpSession

if TYPE_CHECKING:
    from fakeqemu.model.fds.fdset import Fdsets
    from fakeqemu.model.machine import Machine
    from fakeqemu.qmp.connection import QmpConnection
    from fakeqemu.qmp.hooks import Hooks

NEGOTIATE = "qmp_capabilities"
SCHEMA = "query-qmp-schema"

Interceptor = Callable[[CommandInfo, dict[str, Any], Callable[[], Any]], Any]


def dispatcher_of(vm: Machine) -> Dispatcher:
    """The one dispatcher of `vm`, made when first asked for."""
    if vm.dispatcher is None:
        vm.dispatcher = Dispatcher(vm)
    dispatcher: Dispatcher = vm.dispatcher
    return dispatcher


class Dispatcher:
    """The commands of one machine, and who waits for them."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.policy = CompatPolicy.from_members(getattr(vm.configuration, "compat_policy", None))
        self._loop = RequestLoop(
            vm.guard, vm.host, self._request, ready=self._ready, write=self._write
        )
        self.events = EventQueue(vm, self.policy, self._send_event)
        #: what stands between the monitors and the machine; put in by `fakeqemu.testing`
        self.hooks: Hooks | None = None
        #: called in turn around each command, the first outermost: (command, checked
        #: arguments, go on) -> value or Deferred. For test doubles: stubs and faults.
        self.interceptors: list[Interceptor] = []
        if not vm.process.main_loop_running:
            vm.process.on_main_loop.append(self.run)

    # -- one command -------------------------------------------------------------------------

    def execute(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        monitor: Any = None,
        *,
        oob: bool = False,
    ) -> Any:
        """Run a command: its checked value, or a Deferred. Raises QapiError.

        The checks come in QEMU's order: existence, policy, out-of-band, phase, arguments.
        """
        given = {} if arguments is None else arguments
        self._vm.journal.note("command", name, arguments=given, oob=oob)
        try:
            info = self._find(name, oob)
        except QapiError as error:
            self._note_error(name, error, "command")
            raise
        if given or info.arg_type.needs_members:
            return self._in_turns(self._steps(info, given, monitor))
        return self._perform(info, {}, monitor)

    def _steps(self, info: CommandInfo, given: dict[str, Any], monitor: Any) -> Walk:
        """Check the arguments, which stops where a turn may end, and run the command."""
        try:
            schema = self._vm.profile.schema
            checked = yield from walk_arguments(schema, info.name, given, self.policy)
        except QapiError as error:
            self._note_error(info.name, error, "arguments")
            raise
        return self._perform(info, checked, monitor)

    def _perform(self, info: CommandInfo, checked: dict[str, Any], monitor: Any) -> Any:
        try:
            if reads.log is None:
                value = self._intercepted(info, checked, monitor)
            else:
                value = self._noted(reads.log, info, checked, monitor)
        except QapiError as error:
            self._note_error(info.name, error)
            raise
        if isinstance(value, Deferred):
            return self._later(info, value)
        return self._finished(info, value)

    def _in_turns(self, steps: Walk) -> Any:
        """What `steps` returns: at once, or a Deferred if that takes several turns."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            answer = Deferred()
            if self._vm.host.yield_turn(partial(self._next_steps, steps, answer)):
                return answer

    def _next_steps(self, steps: Walk, answer: Deferred) -> None:
        if self._vm.process.exit_code is not None:
            return
        try:
            value, error = self._vm.guard.attempt(self._in_turns, steps)
        except AbortError as abort:
            self._vm.guard.abort(abort)
            return
        if error is not None:
            answer.fail(error)
        else:
            answer.follow(value)

    def _later(self, info: CommandInfo, inner: Deferred) -> Deferred:
        """`inner` with its outcome written down and made into the reply."""
        outer = Deferred()

        def finished(done: Deferred) -> None:
            value, error = None, done.error
            if error is None:
                value, error = self._vm.guard.attempt(self._finished, info, done.value)
            else:
                self._note_error(info.name, error)
            if error is not None:
                outer.fail(error)
            else:
                outer.resolve(value)

        inner.then(finished)
        return outer

    def _find(self, name: str, oob: bool) -> CommandInfo:
        commands = self._vm.profile.schema.commands
        if name not in commands:
            raise CommandNotFoundError(texts.command_not_found(name))
        info = commands[name]
        self.policy.check_input(info.feature, "command", name, CommandNotFoundError)
        if oob and not info.allow_oob:
            raise QapiError(texts.command_not_oob(name))
        if self._vm.preconfig and name not in self._vm.profile.preconfig_commands:
            raise QapiError(texts.command_after_preconfig(name))
        return info

    def _intercepted(self, info: CommandInfo, checked: dict[str, Any], monitor: Any) -> Any:
        if not self.interceptors:
            return self._call(info, checked, monitor)
        call = partial(self._call, info, checked, monitor)
        for interceptor in reversed(self.interceptors):
            call = partial(interceptor, info, checked, call)
        return call()

    def _noted(
        self, log: reads.Log, info: CommandInfo, checked: dict[str, Any], monitor: Any
    ) -> Any:
        """As `_intercepted`; `log` learns which arguments are read and whether all was taken."""
        named = log.typed(info.arg_type, checked, info.name)
        # what the schema does not know, where QEMU hands arguments over as they are
        named |= {name: value for name, value in checked.items() if name not in named}
        try:
            with log.during(info.name):
                value = self._intercepted(info, named, monitor)
        except BaseException:
            log.refuse()
            raise
        given = log.take()
        if not isinstance(value, Deferred):
            log.accept(given)
            return value
        outer = Deferred()

        def finished(done: Deferred) -> None:
            if done.error is not None:
                outer.fail(done.error)
            else:
                log.accept(given)
                outer.resolve(done.value)

        value.then(finished)
        return outer

    def _call(self, info: CommandInfo, checked: dict[str, Any], monitor: Any) -> Any:
        command = COMMANDS.get(info.name)
        if command is None:
            raise NotModelledError(info.name)
        if command.raw:
            keywords = {"arguments": checked}
        else:
            keywords = {keyword_of(member): value for member, value in checked.items()}
        if reads.log is not None:
            reads.log.passed(command.function, keywords)
        if command.monitor:
            keywords["monitor"] = monitor
        return command.function(self._vm, **keywords)

    def _finished(self, info: CommandInfo, value: Any) -> Any:
        value = {} if value is None else value
        if self.policy.hides_anything:
            value = hide_output(info.ret_type, value, self.policy)
            if info.name == SCHEMA:
                value = hide_schema(value, self.policy)
        self._vm.journal.note("reply", info.name, value=value)
        return value

    def _note_error(self, name: str, error: QapiError, fault: str = "") -> None:
        """`fault`: what of the request was wrong before the model saw it; empty if nothing."""
        kind = "not-modelled" if isinstance(error, NotModelledError) else "error"
        blame = {"fault": fault} if fault else {}
        self._vm.journal.note(kind, name, error_class=error.error_class, desc=error.desc, **blame)

    # -- clients -----------------------------------------------------------------------------

    @property
    def fdsets(self) -> Fdsets:
        """What monitors' clients have put into sets, which depend on there being clients."""
        return self._vm.fdsets

    @property
    def connections(self) -> tuple[QmpConnection, ...]:
        """Clients of all monitors."""
        return self._loop.connections

    def connect(self, connection: QmpConnection) -> None:
        """A client is there: greet it."""
        self._loop.add(connection)

    def received(self, connection: QmpConnection, data: bytes, fds: Sequence[int] = ()) -> None:
        """Input from a client."""
        if self.hooks is not None:
            self.hooks.input(connection, data, fds, partial(self._loop.received, connection))
        else:
            self._loop.received(connection, data, fds)

    def hung_up(self, connection: QmpConnection) -> None:
        """A client has gone; what it asked for is still carried out."""
        self._loop.hung_up(connection)

    def run(self) -> None:
        """Serve the sessions that may run: the main loop runs, or a client has read its replies."""
        self._loop.run()

    def answer_now(self, connection: QmpConnection, message: Value) -> None:
        """Answer a request ahead of all others."""
        self._loop.answer_now(connection, message)

    def session(self, *, pretty: bool = False, offers_oob: bool = True) -> QmpSession:
        """A session for a client of this machine."""
        profile = self._vm.profile
        return QmpSession(profile.version, profile.traits, pretty, offers_oob=offers_oob)

    def _ready(self) -> bool:
        process = self._vm.process
        return process.main_loop_running and process.exit_code is None

    def _write(self, connection: QmpConnection, line: Line) -> None:
        if self.hooks is not None:
            self.hooks.output(connection, line)
        else:
            connection.transport.write(line.data)

    def _send_event(self, message: dict[str, Any]) -> None:
        for connection in self._loop.connections:
            if connection.session.receives_events:
                self._loop.send(connection, message)

    # -- a request ---------------------------------------------------------------------------

    def _request(self, connection: QmpConnection, message: Message) -> Any:
        session = connection.session
        if isinstance(message, ParseError):
            self._vm.journal.note("protocol", "input", desc=message.text)
            raise QapiError(message.text)
        try:
            request = parse_request(message.value, session.oob_enabled)
        except QapiError as error:
            self._vm.journal.note("protocol", "request", desc=error.desc, sent=message.value)
            raise
        if self.hooks is None:
            return self._carry_out(connection, request, message.value)
        proceed = partial(self._carry_out, connection, request, message.value)
        return self.hooks.command(connection, request, proceed)

    def _carry_out(self, connection: QmpConnection, request: Request, sent: Any) -> Any:
        session = connection.session
        if request.name == NEGOTIATE:
            self._find(NEGOTIATE, request.oob)
            checked = check_arguments(
                self._vm.profile.schema, NEGOTIATE, request.arguments, self.policy
            )
            session.accept_capabilities(checked.get("enable", ()))
            return {}
        if not session.negotiated:
            self._vm.journal.note(
                "protocol", request.name, desc=texts.EXPECTING_CAPABILITIES, sent=sent
            )
            raise CommandNotFoundError(texts.EXPECTING_CAPABILITIES)
        return self.execute(
            request.name, request.arguments, connection.monitor, oob=request.oob
        )
