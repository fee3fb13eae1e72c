"""Our data classes are those of `dataclasses`, made later: both are asked the same."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fakeqemu import dataclass as ours

ROOT = Path(__file__).parent.parent
OPTIONS: list[dict[str, bool]] = [
    {},
    {"frozen": True},
    {"slots": True},
    {"frozen": True, "slots": True},
    {"eq": False},
    {"repr": False},
    {"kw_only": True, "slots": True},
    {"frozen": True, "eq": False, "slots": True},
]


def families(options: dict[str, bool]) -> list[tuple[Any, Any]]:
    """The same classes, made by us and by the standard library: a base and one derived."""

    def made(module: Any) -> tuple[Any, Any]:
        class Base:
            kind: ClassVar[str] = "b"
            size: int
            name: str = "x"
            seen: list[int] = module.field(default_factory=list)
            secret: str = module.field(default="s", repr=False)
            cached: int = module.field(default=7, compare=False)

        base = module.dataclass(**options)(Base)

        class Derived(base):  # type: ignore[misc]
            name: str = "y"
            more: tuple[int, ...] = ()
            last: int = module.field(init=False, default=3)
            own: dict[str, int] = module.field(init=False, default_factory=dict)
            keyword: bool = module.field(default=False, kw_only=True)

            def __post_init__(self) -> None:
                object.__setattr__(self, "last", self.last + self.size)

        return base, module.dataclass(**options)(Derived)

    return list(zip(made(ours), made(dataclasses), strict=True))


def outcome(call: Any) -> Any:
    try:
        return call()
    except Exception as error:
        if isinstance(error, AttributeError):
            return AttributeError, str(error)  # FrozenInstanceError is one
        return type(error), str(error).partition("Base.")[2] or str(error)


def answers(cls: Any) -> list[Any]:
    """What tells one data class from another."""

    def one(**more: Any) -> Any:
        return cls(size=1, **more)

    def assigned() -> Any:
        changed = one()
        changed.size = 9
        return changed.size, repr(changed).partition(" at ")[0]

    def deleted() -> Any:
        changed = one()
        del changed.size
        return hasattr(changed, "size")

    return [
        outcome(call)
        for call in (
            lambda: repr(one()).partition(" at ")[0],
            lambda: repr(one(seen=[1], name="é")).partition(" at ")[0],
            lambda: one() == one(),
            lambda: one() == one(cached=8),
            lambda: one() == one(secret="t"),
            lambda: one() == object(),
            # both are kept: another may get the place, and so the hash, of one that is gone
            lambda: len({hash(each) for each in [one(seen=()), one(seen=())]}),
            lambda: type(hash(one())),
            lambda: len({one(seen=(), cached=1), one(seen=(), cached=2)}),
            lambda: one().seen is one().seen,
            lambda: cls(1, "n").name,
            lambda: cls(1, "n", [], "s", 2, ()).cached,
            lambda: cls().size,
            lambda: one(unknown=1).size,
            assigned,
            deleted,
            lambda: getattr(one(), "last", None),
            lambda: hasattr(one(), "__dict__"),
            lambda: cls.__match_args__,
            lambda: cls.__qualname__,
            lambda: [each.name for each in dataclasses.fields(cls)],
            lambda: dataclasses.asdict(one()),
            lambda: repr(dataclasses.replace(one(), size=5)).partition(" at ")[0],
            lambda: dataclasses.is_dataclass(cls),
            lambda: repr(copy.deepcopy(one())).partition(" at ")[0],
            lambda: [str(each) for each in inspect.signature(one().__init__).parameters],
            lambda: cls.kind,
        )
    ]


@pytest.mark.parametrize("few", [0, 8, 1000])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_behaves_as_one_of_the_standard_library(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, bool], few: int
) -> None:
    monkeypatch.setattr(ours, "_FEW", few)
    for mine, standard in families(options):
        assert answers(mine) == answers(standard)
        # once more, now that the methods are written
        assert answers(mine) == answers(standard)


def test_replace_and_fields() -> None:
    (_, _), (mine, _) = families({"frozen": True, "slots": True})
    assert repr(ours.replace(mine(1), more=(2,))) == repr(mine(1, more=(2,)))
    assert [each.name for each in ours.fields(mine)] == [
        "size", "name", "seen", "secret", "cached", "more", "last", "own", "keyword",
    ]  # fmt: skip


def test_faults_of_a_class_show_when_it_is_made() -> None:
    class Order:
        first: int = 1
        second: str

    class Shared:
        names: list[str] = []  # noqa: RUF012

    with pytest.raises(TypeError, match="second without default follows one with"):
        ours.dataclass(Order)
    with pytest.raises(ValueError, match="names: a default that is shared"):
        ours.dataclass(Shared)


@ours.dataclass(frozen=True, slots=True)
class Point:
    """Where pickle finds it."""

    x: int
    y: int = 2


def test_it_can_be_pickled() -> None:
    again = pickle.loads(pickle.dumps(Point(1)))
    assert again == Point(1)
    assert again.y == 2


def modules() -> list[Any]:
    """Every module of the package."""
    names = (
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "fakeqemu").rglob("*.py"))
    )
    return [importlib.import_module(name) for name in names if not name.endswith("__main__")]


def test_the_methods_of_every_class_can_be_written() -> None:
    """So that nothing of it is found out by the first who makes one."""
    written = 0
    for module in modules():
        for cls in vars(module).values():
            ours_made = isinstance(cls, type) and "__own_fields__" in vars(cls)
            if not ours_made or cls.__module__ != module.__name__:
                continue
            with pytest.raises(TypeError, match="unexpected keyword argument 'of_no_class'"):
                cls(of_no_class=1)
            bare = object.__new__(cls)
            assert bare != object()
            if "__hash__" in vars(cls) and cls.__hash__ is not None and cls.__match_args__:
                with pytest.raises(AttributeError):
                    hash(bare)
            required = [
                each.name
                for each in inspect.signature(cls).parameters.values()
                if each.default is inspect.Parameter.empty
            ]
            assert set(required) == {
                each.name for each in ours.fields(cls) if each.init and each.required
            }
            written += 1
    assert written > 200


def test_making_one_imports_nothing() -> None:
    code = (
        "import sys; sys.path.insert(0, '.'); import fakeqemu.clock, fakeqemu.journal, "
        "fakeqemu.dataclass; assert 'dataclasses' not in sys.modules"
    )
    subprocess.run([sys.executable, "-IS", "-c", code], cwd=ROOT, check=True)
