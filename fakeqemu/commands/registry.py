"""Commands are short functions registered by name.

    @command("system_reset")
    def system_reset(vm: Machine) -> None: ...

    @command("qom-get")
    def qom_get(vm: Machine, path: str, property: str) -> Json: ...

A function gets the machine and the checked arguments as keywords: the schema's member names
with `-` turned into `_` (and `_` appended to a Python keyword). An optional member that was
not sent is not passed: give it a default. Return the reply's `return` value; None means `{}`.
Raise `QapiError` to refuse. `monitor=True` passes the calling monitor as keyword `monitor`
(None when there is none); `raw=True` passes all arguments as one keyword `arguments`, under
the names the client used. A command that answers later returns a `Deferred`.

What only passes on, or only refuses, is a row rather than a function:

    commands({"query-dump": lambda vm: vm.dump.query()})
    actions({"job-dismiss": lambda vm, id: dismiss(vm.block.jobs.get(id))})
    refused({"xen-event-list": "Xen event channel emulation not enabled"})

See qapi/qmp-registry.c: qmp_register_command(); qapi/qmp-dispatch.c: qmp_dispatch().
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from fakeqemu.commands.lazy_registry import LazyRegistry
from fakeqemu.dataclass import dataclass
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine
    from fakeqemu.traits import Traits

F = TypeVar("F", bound=Callable[..., Any])


class Deferred:
    """A reply that comes later: resolved with a value or an error exactly once."""

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None
        self.error: QapiError | None = None
        self._waiter: Callable[[Deferred], None] | None = None

    def resolve(self, value: Any = None) -> None:
        """The command succeeded with `value`."""
        self._finish(value, None)

    def fail(self, error: QapiError) -> None:
        """The command is refused after all."""
        self._finish(None, error)

    def follow(self, value: Any) -> None:
        """End as `value` does, a Deferred; or succeed with it, if it is anything else."""
        if not isinstance(value, Deferred):
            self.resolve(value)
            return
        value.then(lambda done: self._finish(done.value, done.error))

    def then(self, waiter: Callable[[Deferred], None]) -> None:
        """Call `waiter` when done; at once if it already is."""
        self._waiter = waiter
        if self.done:
            waiter(self)

    def _finish(self, value: Any, error: QapiError | None) -> None:
        if self.done:
            raise RuntimeError("a deferred reply was finished twice")
        self.done, self.value, self.error = True, value, error
        if self._waiter is not None:
            self._waiter(self)


@dataclass(frozen=True, slots=True)
class Command:
    """One QMP command that the model answers."""

    #: the command's name in the schema
    name: str
    #: called with the machine and the arguments as keywords
    function: Callable[..., Any]
    #: whether `function` wants the keyword `monitor`
    monitor: bool = False
    #: whether `function` wants its arguments as one dict, keyword `arguments`
    raw: bool = False


#: every modelled command
COMMANDS: LazyRegistry[Command] = LazyRegistry("qmp")


def command(name: str, *, monitor: bool = False, raw: bool = False) -> Callable[[F], F]:
    """Register the decorated function as QMP command `name`."""

    def register(function: F) -> F:
        COMMANDS.register(name, Command(name, function, monitor, raw))
        return function

    return register


def commands(
    rows: Mapping[str, Callable[..., Any]], *, monitor: bool = False, raw: bool = False
) -> None:
    """Register commands that only pass on: name -> what is called, as `command` has it."""
    for name, function in rows.items():
        COMMANDS.register(name, Command(name, function, monitor, raw))


def actions(
    rows: Mapping[str, Callable[..., Any]], *, monitor: bool = False, raw: bool = False
) -> None:
    """The same for commands whose reply is `{}`, whatever is returned."""
    commands(
        {name: _without_value(function) for name, function in rows.items()},
        monitor=monitor,
        raw=raw,
    )


def _without_value(function: Callable[..., Any]) -> Callable[..., None]:
    @wraps(function)
    def act(vm: Machine, **keywords: Any) -> None:
        function(vm, **keywords)

    return act


def refused(rows: Mapping[str, str | Callable[[Traits], str]]) -> None:
    """Register commands that only refuse: name -> QEMU's text, or the trait that has it."""
    commands({name: _refusal(text) for name, text in rows.items()})


def _refusal(text: str | Callable[[Traits], str]) -> Callable[..., None]:
    def refuse(vm: Machine, **_: Any) -> None:
        raise QapiError(text if isinstance(text, str) else text(vm.profile.traits))

    return refuse


def keyword_of(member: str) -> str:
    """The Python keyword that carries schema member `member`."""
    name = member.replace("-", "_")
    return name + "_" if keyword.iskeyword(name) else name
