"""Runs requests: one at a time for the whole process, each session in its turn.

QEMU has one dispatcher for all its QMP monitors. A command that answers later (`Deferred`)
holds up the in-band requests of every session; out-of-band ones run at once.

See monitor/qmp.c: monitor_qmp_dispatcher_co(); qapi/qmp-dispatch.c: qmp_dispatch().
"""

from __future__ import annotations

from collections.abc import Callable
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
from fakeqemu.qmp.request import NO_ID, Request, failure, id_of, parse_request, success

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine
    from fakeqemu.qmp.hooks import Hooks
    from fakeqemu.qmp.session import QmpSession

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
        self.events = EventQueue(vm, self.policy)
        #: what stands between the monitors and the machine; put in by `fakeqemu.testing`
        self.hooks: Hooks | None = None
        self._sessions: list[QmpSession] = []
        #: whether `run` is at work
        self._running = False
        #: a request was answered in this turn of the process; the next one waits for another
        self._turn_used = False
        #: called in turn around each command, the first outermost: (command, checked
        #: arguments, go on) -> value or Deferred. For test doubles: stubs and faults.
        self.interceptors: list[Interceptor] = []
        #: the session whose command is under way
        self._pending: QmpSession | None = None
        if not vm.process.main_loop_running:
            vm.process.on_main_loop.append(self.run)
        vm.objects.make_monitor = self._make_monitor

    def _make_monitor(self, chardev: str, human: bool, pretty: bool) -> Any:
        """The monitor of an object that object-add makes."""
        if human:
            from fakeqemu.qmp.hmp.terminal import HmpTerminal

            return HmpTerminal(self._vm, self._vm.chardevs[chardev])
        from fakeqemu.qmp.monitor import QmpMonitor

        return QmpMonitor(self._vm, self._vm.chardevs[chardev], pretty, dispatcher=self)

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
        return self._in_turns(self._steps(name, arguments or {}, monitor, oob))

    def _steps(self, name: str, given: dict[str, Any], monitor: Any, oob: bool) -> Walk:
        """`execute`, which stops where a turn may end: before the command has begun."""
        vm = self._vm
        vm.journal.note("command", name, arguments=given, oob=oob)
        #: who is to blame, as far as is known yet; see `_note_error`
        fault = "command"
        try:
            info = self._find(name, oob)
            fault = "arguments"
            checked = yield from walk_arguments(vm.profile.schema, name, given, self.policy)
            fault = ""
            if reads.log is None:
                value = self._intercepted(info, checked, monitor)
            else:
                value = self._noted(reads.log, info, checked, monitor)
        except QapiError as error:
            self._note_error(name, error, fault)
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

    # -- sessions ----------------------------------------------------------------------------

    @property
    def sessions(self) -> tuple[QmpSession, ...]:
        """Sessions of all monitors that have a client."""
        return tuple(self._sessions)

    def add(self, session: QmpSession) -> None:
        """`session` has a client."""
        self._sessions.append(session)
        self.events.add(session)

    def remove(self, session: QmpSession) -> None:
        """`session` is over."""
        if session in self._sessions:
            self._sessions.remove(session)
        self.events.remove(session)

    def run(self) -> None:
        """Answer what waits, unless a command is under way or the main loop does not run yet.

        One request a turn, so that everybody else is served in between, and each session in
        its turn.
        """
        if self._running:
            return
        if self._vm.process.main_loop_running:
            self._running = True
            try:
                while (
                    self._pending is None
                    and not self._turn_used
                    and (found := self._next()) is not None
                ):
                    self._turn_used = self._vm.host.yield_turn(self._next_turn)
                    self._answer(*found)
            finally:
                self._running = False
        for session in tuple(self._sessions):
            session.signal()

    def _next_turn(self) -> None:
        self._turn_used = False
        if self._vm.process.exit_code is None:
            self.run()

    def run_now(self, session: QmpSession, message: Value) -> None:
        """Answer an out-of-band request; nobody waits for it and it waits for nobody."""
        self._reply(session, message.value, partial(self._send, session))

    def _next(self) -> tuple[QmpSession, Message] | None:
        """The next request; its session goes to the end of the line."""
        for index, session in enumerate(self._sessions):
            if (message := session.pop()) is not None:
                self._sessions.append(self._sessions.pop(index))
                return session, message
        return None

    def _answer(self, session: QmpSession, message: Message) -> None:
        oob_was_enabled = session.oob_enabled
        self._pending = session

        def answered(reply: dict[str, Any]) -> None:
            self._send(session, reply)
            self._pending = None
            session.answered(oob_was_enabled)
            self.run()

        if isinstance(message, ParseError):
            self._vm.journal.note("protocol", "input", desc=message.text)
            answered(failure(QapiError(message.text), NO_ID))
        else:
            self._reply(session, message.value, answered)

    def _send(self, session: QmpSession, reply: dict[str, Any]) -> None:
        """Send a reply; what cannot be written as JSON is a bug like any other."""

        def failed(error: QapiError) -> None:
            session.send(failure(error, reply.get("id", NO_ID)))

        self._vm.guard.call(session.send, reply, failed=failed)

    def _reply(
        self, session: QmpSession, message: Any, answered: Callable[[dict[str, Any]], None]
    ) -> None:
        """Have `answered` called with the reply, now or later; never if the process ends."""
        id = id_of(message)
        if self.hooks is not None:
            answered = _naming(session, message, answered)
        try:
            value, error = self._vm.guard.attempt(self._request, session, message)
        except AbortError as abort:
            self._vm.guard.abort(abort)
            return
        if error is not None:
            answered(failure(error, id))
            return
        if not isinstance(value, Deferred):
            answered(success(value, id))
            return

        def finished(done: Deferred) -> None:
            if done.error is not None:
                answered(failure(done.error, id))
            else:
                answered(success(done.value, id))

        value.then(finished)

    def _request(self, session: QmpSession, message: Any) -> Any:
        try:
            request = parse_request(message, session.oob_enabled)
        except QapiError as error:
            self._vm.journal.note("protocol", "request", desc=error.desc, sent=message)
            raise
        if self.hooks is None:
            return self._carry_out(session, request, message)
        return self.hooks.command(
            session, request, lambda: self._carry_out(session, request, message)
        )

    def _carry_out(self, session: QmpSession, request: Request, message: Any) -> Any:
        if request.name == NEGOTIATE:
            self._find(NEGOTIATE, request.oob)
            checked = check_arguments(
                self._vm.profile.schema, NEGOTIATE, request.arguments, self.policy
            )
            session.accept_capabilities(checked.get("enable", ()))
            return {}
        if not session.negotiated:
            self._vm.journal.note(
                "protocol", request.name, desc=texts.EXPECTING_CAPABILITIES, sent=message
            )
            raise CommandNotFoundError(texts.EXPECTING_CAPABILITIES)
        return self.execute(request.name, request.arguments, session.monitor, oob=request.oob)


def _naming(
    session: QmpSession, message: Any, answered: Callable[[dict[str, Any]], None]
) -> Callable[[dict[str, Any]], None]:
    """`answered`, with the session knowing meanwhile which command it is about."""
    request = message if isinstance(message, dict) else {}
    name = request.get("execute", request.get("exec-oob"))

    def named(reply: dict[str, Any]) -> None:
        session.subject = name if isinstance(name, str) else None
        answered(reply)
        session.subject = None

    return named
