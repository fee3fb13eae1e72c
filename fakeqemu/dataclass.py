"""Data classes whose methods are written when they are first used.

`dataclasses` compiles up to six functions for each class when its module is imported, and brings
inspect, ast, dis and tokenize along; with hundreds of classes, most of which one run makes nothing
of, that was half of what a start cost. Classes made here have the same members and the same
behaviour, with those options that this package needs. `dataclasses.fields()`, `replace()` and
`asdict()` take them. A field that cannot be, as one without default behind one with, is a
TypeError at import, not when the first object is made.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from types import MemberDescriptorType
from typing import Any, TypeVar, dataclass_transform, overload

_T = TypeVar("_T")
_C = TypeVar("_C", bound=type)

#: no default; in a signature: the default is made by the factory
_NONE: Any = type("_None", (), {"__repr__": lambda _: "<factory>"})()
_OWN = "__own_fields__"
#: objects of a class that are made without a method written for it
_FEW = 8


class Field:
    """One member of a data class."""

    __slots__ = ("compare", "default", "factory", "init", "keyword", "name", "repr", "type")

    def __init__(self, default: Any, factory: Any = _NONE) -> None:
        self.name: str = ""
        self.type: Any = None
        self.default = default
        self.factory = factory
        self.init = self.repr = self.compare = True
        #: given by keyword only; None: as the class says
        self.keyword: bool | None = None

    @property
    def required(self) -> bool:
        """Whether there is nothing to take where it is not given."""
        return self.default is _NONE and self.factory is _NONE


def field(
    *,
    default: Any = _NONE,
    default_factory: Callable[[], Any] = _NONE,
    init: bool = True,
    repr: bool = True,
    compare: bool = True,
    kw_only: bool | None = None,
) -> Any:
    """A member with these properties; see `dataclasses.field()`."""
    made = Field(default, default_factory)
    made.init, made.repr, made.compare, made.keyword = init, repr, compare, kw_only
    return made


def fields(cls: type) -> tuple[Field, ...]:
    """The members of a class that `dataclass` made, those of its bases first."""
    found: dict[str, Field] = {}
    for base in reversed(cls.__mro__):
        for each in base.__dict__.get(_OWN, ()):
            found[each.name] = each
    return tuple(found.values())


def is_frozen(cls: type) -> bool:
    """Whether it is a class of data whose objects do not change."""
    return cls.__dict__.get("__setattr__") is _no_assignment


def replace(one: _T, /, **changes: Any) -> _T:
    """An object like `one` but for `changes`; see `dataclasses.replace()`."""
    values = {each.name: getattr(one, each.name) for each in fields(type(one)) if each.init}
    return type(one)(**{**values, **changes})


@overload
def dataclass(cls: _C, /) -> _C: ...
@overload
def dataclass(
    *,
    frozen: bool = ...,
    slots: bool = ...,
    eq: bool = ...,
    repr: bool = ...,
    kw_only: bool = ...,
) -> Callable[[_C], _C]: ...
@dataclass_transform(field_specifiers=(field,))
def dataclass(
    cls: Any = None,
    /,
    *,
    frozen: bool = False,
    slots: bool = False,
    eq: bool = True,
    repr: bool = True,
    kw_only: bool = False,
) -> Any:
    """Make a class one of data; see `dataclasses.dataclass()`.

    Annotations are strings (`from __future__ import annotations`). Raises TypeError or ValueError
    for fields that cannot be.
    """

    def made(cls: type) -> type:
        own = _own_fields(cls, kw_only)
        setattr(cls, _OWN, own)
        if slots:
            cls = _with_slots(cls, own)
        _add_methods(cls, frozen=frozen, eq=eq, shown=repr)
        return cls

    return made if cls is None else made(cls)


def _own_fields(cls: type, keyword: bool) -> tuple[Field, ...]:
    """The fields of the class's own body; its attributes are left with their defaults."""
    found = []
    for name, kind in cls.__annotations__.items():
        if kind.startswith("ClassVar"):
            continue
        default = cls.__dict__.get(name, _NONE)
        each = default if isinstance(default, Field) else Field(default)
        if each is default:
            if each.default is _NONE:
                delattr(cls, name)
            else:
                setattr(cls, name, each.default)
        if each.default.__class__.__hash__ is None:
            raise ValueError(f"{cls.__qualname__}.{name}: a default that is shared can change")
        each.name, each.type = name, kind
        if each.keyword is None:
            each.keyword = keyword
        found.append(each)
    return tuple(found)


def _with_slots(cls: type, own: tuple[Field, ...]) -> type:
    inherited = {name for base in cls.__mro__[1:] for name in getattr(base, "__slots__", ())}
    names = [each.name for each in own]
    namespace = {
        name: value
        for name, value in cls.__dict__.items()
        if name not in names and name not in ("__dict__", "__weakref__")
    }
    namespace["__slots__"] = tuple(name for name in names if name not in inherited)
    again = type(cls)(cls.__name__, cls.__bases__, namespace)
    again.__qualname__ = cls.__qualname__
    return again


def _add_methods(cls: type, *, frozen: bool, eq: bool, shown: bool) -> None:
    members = fields(cls)
    taken = [each for each in members if each.init]
    optional = False
    for each in taken:
        if each.keyword:
            continue
        if each.required and optional:
            raise TypeError(f"{cls.__qualname__}.{each.name} without default follows one with")
        optional = optional or not each.required
    there = cls.__dict__
    added: dict[str, Any] = {
        "__dataclass_fields__": _STANDARD_FIELDS,
        "__match_args__": tuple(each.name for each in taken if not each.keyword),
        "__init__": _first_init(cls, members, frozen),
    }
    if shown:
        added["__repr__"] = _repr
    if eq:
        added["__eq__"] = _first(cls, "__eq__", _write_eq)
        added["__hash__"] = _first(cls, "__hash__", _write_hash) if frozen else None
    if frozen:
        added |= _FROZEN
    for name, value in added.items():
        # a class body with __eq__ has __hash__ None
        if there.get(name) is None:
            setattr(cls, name, value)


def _first(cls: type, name: str, write: Callable[[type], Any]) -> Any:
    """A method that is written, and put in place of this one, when it is first called."""

    def first(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        method = write(cls)
        setattr(cls, name, method)
        return method(self, *args, **kwargs)

    return first


def _first_init(cls: type, members: tuple[Field, ...], frozen: bool) -> Any:
    """The same for __init__, which is only written when more than a few objects are made."""
    made = 0

    def first(self: Any, /, *args: Any, **kwargs: Any) -> None:
        nonlocal made
        made += 1
        if made <= _FEW and _fill(self, members, args, dict(kwargs), frozen):
            return
        method = _write_init(cls, frozen)
        cls.__init__ = method  # type: ignore[misc]
        method(self, *args, **kwargs)

    return first


def _fill(
    one: Any, members: tuple[Field, ...], args: tuple[Any, ...], given: dict[str, Any], frozen: bool
) -> bool:
    """What the written method does; False for arguments that do not fit, which it words."""
    positional = [each.name for each in members if each.init and not each.keyword]
    if len(args) > len(positional) or not given.keys().isdisjoint(positional[: len(args)]):
        return False
    given.update(zip(positional, args, strict=False))
    put = object.__setattr__ if frozen else setattr
    for each in members:
        if each.init and each.name in given:
            value = given.pop(each.name)
        elif each.factory is not _NONE:
            value = each.factory()
        elif each.default is not _NONE:
            value = each.default
        elif each.init:
            return False
        else:
            continue
        put(one, each.name, value)
    if given:
        return False
    if hasattr(one, "__post_init__"):
        one.__post_init__()
    return True


def _write_init(cls: type, frozen: bool) -> Any:
    names: dict[str, Any] = {"_NONE": _NONE, "_set": object.__setattr__}
    positional: list[str] = []
    keyword: list[str] = []
    body: list[str] = []
    for number, each in enumerate(fields(cls)):
        name, value = each.name, each.name
        if each.factory is not _NONE:
            names[f"_make{number}"] = each.factory
            default = "_NONE"
            value = f"_make{number}()"
            if each.init:
                value = f"{value} if {name} is _NONE else {name}"
        elif each.default is not _NONE:
            default = f"_default{number}"
            names[default] = each.default
            value = name if each.init else default
        elif each.init:
            default = ""
        else:
            continue
        if each.init:
            (keyword if each.keyword else positional).append(
                f"{name}={default}" if default else name
            )
        if not frozen:
            body.append(f"self.{name} = {value}")
        elif isinstance(slot := getattr(cls, name, None), MemberDescriptorType):
            names[f"_set{number}"] = slot.__set__
            body.append(f"_set{number}(self, {value})")
        else:
            body.append(f"_set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    given = ["self", *positional, *(["*", *keyword] if keyword else [])]
    return _written(cls, "__init__", given, body or ["pass"], names)


def _write_eq(cls: type) -> Any:
    body = [
        "if other.__class__ is not self.__class__:",
        " return NotImplemented",
        f"return {_values(cls, 'self')} == {_values(cls, 'other')}",
    ]
    return _written(cls, "__eq__", ["self", "other"], body, {})


def _write_hash(cls: type) -> Any:
    return _written(cls, "__hash__", ["self"], [f"return hash({_values(cls, 'self')})"], {})


def _values(cls: type, of: str) -> str:
    """The text of a tuple of what is compared."""
    compared = [f"{of}.{each.name}," for each in fields(cls) if each.compare]
    return f"({''.join(compared)})"


def _written(
    cls: type, name: str, parameters: list[str], body: list[str], names: dict[str, Any]
) -> Any:
    text = f"def {name}({', '.join(parameters)}):\n " + "\n ".join(body)
    names["__name__"] = cls.__module__
    exec(text, names)
    method = names[name]
    method.__qualname__ = f"{cls.__qualname__}.{name}"
    return method


@reprlib.recursive_repr()
def _repr(self: Any) -> str:
    shown = (
        f"{each.name}={getattr(self, each.name)!r}" for each in fields(type(self)) if each.repr
    )
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _no_assignment(_self: Any, name: str, _value: object) -> None:
    raise AttributeError(f"cannot assign to field {name!r}")


def _no_deletion(_self: Any, name: str) -> None:
    raise AttributeError(f"cannot delete field {name!r}")


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, each.name) for each in fields(type(self))]


def _set_state(self: Any, state: list[Any]) -> None:
    for each, value in zip(fields(type(self)), state, strict=True):
        object.__setattr__(self, each.name, value)


_FROZEN: dict[str, Any] = {
    "__setattr__": _no_assignment,
    "__delattr__": _no_deletion,
    "__getstate__": _get_state,
    "__setstate__": _set_state,
}


class _StandardFields:
    """What functions of `dataclasses` look for, made when they do."""

    def __get__(self, _one: object, cls: type) -> dict[str, Any]:
        import dataclasses

        def standard(each: Field) -> Any:
            given: dict[str, Any] = {"default": each.default, "default_factory": each.factory}
            return dataclasses.field(
                init=each.init,
                repr=each.repr,
                compare=each.compare,
                kw_only=bool(each.keyword),
                **{key: value for key, value in given.items() if value is not _NONE},
            )

        members = [(each.name, each.type, standard(each)) for each in fields(cls)]
        alike: Any = dataclasses.make_dataclass(cls.__name__, members)
        standard_fields: dict[str, Any] = alike.__dataclass_fields__
        return standard_fields


_STANDARD_FIELDS = _StandardFields()
