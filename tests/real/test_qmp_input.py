"""The same bad input to a real QEMU and to our session: the bytes that come back are the same."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator
from typing import Any

import pytest

from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.schema import AlternateType, ArrayType, BuiltinType, EnumType, ObjectType, Type
from fakeqemu.qapi.visitor import check_arguments
from tests.support.processes import QemuProcess
from tests.support.raw_clients import RawSession
from tests.support.real import find_real_qemu
from tests.support.sessions import connect, make_vm, stubs

__all__ = ["connect", "make_vm", "stubs"]

PIECES = [
    b"{", b"}", b"[", b"]", b":", b",", b'"a"', b"'c'", b"1", b"-1", b"01", b"1.", b"1e5", b"-",
    b"true", b"nope", b" ", b"\n", b"\t", b"\x01", b"\x00", b"\xff", b"\xc3\xa9", b'"\\ud800"',
    b'"\\x"', b'"\xff"', b'"\xc0\x80"', b'"', b"'", b"\\", b"#", b"A", b'"a":1', b'{"a":',
    b'"\\u12"',
]  # fmt: skip
NAMES = ["query-name", "query-kvm", "nope", "", "qmp_capabilities"]
JUNK = [1, -1, 255, 256, 2**32, 2**63, 2**64, 1.5, "", "x", None, True, [], {}, [1], {"a": 1}]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QemuProcess]:
    found = find_real_qemu()
    if found is None:
        pytest.skip("no qemu-system-x86_64 in PATH and no FAKEQEMU_REAL_QEMU")
    machine = QemuProcess(
        [found.binary], ("-machine", "none", "-nodefaults", "-S"), tmp_path_factory.mktemp("real")
    )
    yield machine
    machine.stop()


@pytest.fixture
def real(machine: QemuProcess) -> Iterator[RawSession]:
    session = RawSession(machine.path)
    yield session
    session.close()


def test_broken_json(real, profile, make_vm, connect):
    rng = random.Random(1)
    for _ in range(150):
        data = b"".join(rng.choices(PIECES, k=rng.choice([2, 3, 5, 8, 12]))) + b"\n\xff\n"
        real.reconnect()
        client = connect(make_vm(profile.name))
        # the real one has read a line of negotiation
        client.receive(b'{"execute":"qmp_capabilities"}\n')
        client.out.clear()
        client.receive(data + RawSession.SYNC)
        ours = b"".join(line for line in client.out if b'"id": "sync"' not in line)
        assert ours == real.talk(data), data


def value(rng: random.Random, depth: int = 0) -> Any:
    roll = rng.random()
    if roll < 0.2 and depth < 3:
        names = ("".join(rng.choices(string.ascii_letters + "\u00e9-", k=2)) for _ in range(20))
        return {name: value(rng, depth + 1) for name in [*names][: rng.choice([0, 1, 3, 20])]}
    if roll < 0.3 and depth < 3:
        return [value(rng, depth + 1) for _ in range(rng.choice([0, 1, 3]))]
    return rng.choice([*JUNK, 0.1, 1e300, "\u2028\x7f", "\U0001f600", -0.0])


def test_requests_of_any_shape(real, profile, make_vm, connect):
    rng = random.Random(2)
    real.reconnect()
    client = connect(make_vm(profile.name)).negotiate()
    chances = {"execute": 0.9, "exec-oob": 0.1, "arguments": 0.3, "id": 0.6, "x": 0.05, "y": 0.05}
    for _ in range(300):
        names = [name for name, chance in chances.items() if rng.random() < chance]
        rng.shuffle(names)
        request = {name: value(rng) for name in names}
        if "execute" in request and rng.random() < 0.9:
            request["execute"] = rng.choice(NAMES)
        if "arguments" in request and rng.random() < 0.5:
            request["arguments"] = {}
        line = json.dumps(request).encode() + b"\n"
        client.out.clear()
        client.receive(line)
        assert b"".join(client.out) == real.ask(line), line


class Arguments:
    """Arguments that are nearly right."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def of(self, type: Type, depth: int = 0) -> Any:
        rng = self.rng
        if depth and rng.random() < 0.06:
            return rng.choice(JUNK)
        if isinstance(type, EnumType):
            return rng.choice(type.values) if rng.random() < 0.9 else "no-such-value"
        if isinstance(type, ArrayType):
            return [self.of(type.element, depth + 1) for _ in range(rng.choice([0, 1, 2]))]
        if isinstance(type, AlternateType):
            return self.of(rng.choice(type.members), depth)
        if isinstance(type, BuiltinType):
            kinds = {"string": ["x", ""], "boolean": [True], "null": [None], "value": [{}]}
            return rng.choice(kinds.get(type.json_type, [0, 1, 255, 256, 70000, 2**33, -129]))
        members: dict[str, Any] = {}
        self.members(type, members, depth)
        return members

    def members(self, type: ObjectType, members: dict[str, Any], depth: int) -> None:
        often = 0.4 if depth < 3 else 0.1
        for member in type.members:
            if self.rng.random() < (often if member.optional else 0.96):
                members[member.name] = self.of(member.type, depth + 1)
        if type.tag is not None and isinstance(members.get(type.tag), str):
            variant = type.variant(members[type.tag])
            if variant is not None:
                self.members(variant, members, depth)


def test_arguments_of_every_command(real, profile):
    rng = random.Random(3)
    schema = profile.schema
    real.reconnect()
    for name in schema.commands:
        info = schema.commands[name]
        if not info.checked:
            continue
        for _ in range(4):
            arguments = Arguments(rng).of(info.arg_type)
            # whatever the rest is like, this keeps the command from being carried out
            arguments |= {f"zz{rng.randrange(20)}": 1 for _ in range(rng.choice([1, 1, 3, 8]))}
            with pytest.raises(QapiError) as caught:
                check_arguments(schema, name, json.loads(json.dumps(arguments)))
            line = json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n"
            assert json.loads(real.ask(line))["error"]["desc"] == caught.value.desc, line
