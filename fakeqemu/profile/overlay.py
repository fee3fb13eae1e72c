"""Hand-written rules laid over a recorded profile.

A profile that was never recorded (a QEMU that does not exist yet) says only how it differs
from one that was. `overlay.json`:

    {"base": "11.1", "rules": [
        {"part": "schema",
         "at": [{"name": "migrate-set-parameters"}, "->arg-type", "members"],
         "append": {"name": "local", "type": "bool", "default": null}}, ...]}

`machine-types` names those that it adds, and the recorded one that each is like (see
`machine_types`).

`at` walks from the part's root; a step is

* a string: that member of an object, `*` every member;
* `->MEMBER`: the entry of the part whose `name` is this value's MEMBER (a type reference);
* an object: the elements of a list that have these members.

What it finds is changed by `set` (replace), `merge` (add members), `append` (add an element,
once) or `append-each` (`{"of": WAY, "with": MEMBERS}`: add each element of the list there, with
these members over its own). A step that finds nothing is an error: a rule that no longer fits
must not pass unseen. Values are copied along the way, never changed in place. Anywhere in a
value `{"value-at": WAY}` stands for what is there: the numbers that introspection gives types
differ between versions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass
from fakeqemu.profile.packing import Packed, pack

if TYPE_CHECKING:
    from pathlib import Path

#: new value from old, and the whole part
Change = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class OverlayRule:
    """One change to one part."""

    #: the part it changes
    part: str
    #: the way to the value it changes
    at: tuple[Any, ...]
    change: Change


class OverlayError(ValueError):
    """A rule that is ill-formed or does not fit its base."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """What an `overlay.json` says."""

    base: str
    proposals: tuple[str, ...]
    rules: list[OverlayRule]
    #: name of a machine type that it adds -> the recorded one that it is like
    machine_types: dict[str, str]


def read_overlay(path: Path) -> Overlay:
    """An overlay's file. Raises OverlayError, which names it."""
    try:
        described = json.loads(path.read_text("utf-8"))
        if not isinstance(described, dict):
            raise OverlayError("not an object")
        base, proposals = described.get("base"), described.get("proposals", [])
        if not isinstance(base, str):
            raise OverlayError("base has to be a profile's name")
        if not isinstance(proposals, list) or not all(isinstance(each, str) for each in proposals):
            raise OverlayError("proposals has to be a list of names")
        types = described.get("machine-types", {})
        if not isinstance(types, dict) or not all(isinstance(each, str) for each in types.values()):
            raise OverlayError("machine-types has to be an object of names")
        return Overlay(base, tuple(proposals), parse_rules(described.get("rules", [])), types)
    except OSError as error:
        raise OverlayError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # OverlayError, and those of JSON and UTF-8
        raise OverlayError(f"{path}: {error}") from None
    except RecursionError:
        raise OverlayError(f"{path}: nested too deeply") from None


def parse_rules(rules: list[dict[str, Any]]) -> list[OverlayRule]:
    """The rules of an overlay file; OverlayError says which one is wrong."""
    if not isinstance(rules, list):
        raise OverlayError("rules has to be a list")
    return [_parse(rule) for rule in rules]


def apply(rules: list[OverlayRule], part: str, value: Any) -> Any:
    """`value` of `part` with the rules for it applied in order; the same object if none is."""
    wanted = [rule for rule in rules if rule.part == part]
    if not wanted:
        return value
    packed = isinstance(value, Packed)
    plain = value.get() if packed else value
    for rule in wanted:
        plain = _walk(plain, rule.at, rule)
    return Packed(pack(plain)) if packed else plain


def _parse(rule: dict[str, Any]) -> OverlayRule:
    def appended(new: Any) -> Change:
        def change(old: Any, root: Any) -> Any:
            return _appended(old, [_filled(new, root, rule)])

        return change

    def appended_each(new: Any) -> Change:
        def change(old: Any, root: Any) -> Any:
            if not isinstance(new, dict) or set(new) != {"of", "with"}:
                raise OverlayError(f"append-each takes of and with, not {_short(new)}")
            found = _value_at(root, new["of"], rule)
            if not isinstance(found, list):
                raise OverlayError(f"append-each takes elements of a list, not {_short(found)}")
            return _appended(old, [_merged(each, new["with"]) for each in found])

        return change

    if not isinstance(rule, dict):
        raise OverlayError(f"not a rule: {_short(rule)}")
    changes: dict[str, Callable[[Any], Change]] = {
        "set": lambda new: lambda old, root: _replaced(old, _filled(new, root, rule)),
        "merge": lambda new: lambda old, root: _merged(old, _filled(new, root, rule)),
        "append": appended,
        "append-each": appended_each,
    }
    kinds = [kind for kind in changes if kind in rule]
    steps = rule.get("at")
    if (
        len(kinds) != 1
        or set(rule) - {"part", "at", "why", kinds[0]}
        or not isinstance(rule.get("part"), str)
        or not isinstance(steps, list)
        or not all(isinstance(step, str | dict) for step in steps)
    ):
        raise OverlayError(f"not a rule: {_short(rule)}")
    return OverlayRule(rule["part"], tuple(rule["at"]), changes[kinds[0]](rule[kinds[0]]))


def _filled(value: Any, root: Any, rule: Any) -> Any:
    """`value` with what `value-at` stands for."""
    if isinstance(value, list):
        return [_filled(each, root, rule) for each in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"value-at"}:
        return _value_at(root, value["value-at"], rule)
    return {name: _filled(each, root, rule) for name, each in value.items()}


def _value_at(root: Any, at: Sequence[Any], rule: Any) -> Any:
    """What the way leads to. Raises OverlayError."""
    if not isinstance(at, list | tuple):
        raise OverlayError(f"{_short(at)} is no way")
    here = root
    for number, first in enumerate(at):
        if isinstance(first, dict):
            items = here if isinstance(here, list) else ()
            here = next((item for item in items if _has(item, first)), None)
        elif not isinstance(first, str) or not isinstance(here, dict):
            here = None
        elif first.startswith("->"):
            name = here.get(first[2:])
            here = _named(root, name, rule) if isinstance(name, str) else None
        else:
            here = here.get(first)
        if here is None:
            raise OverlayError(
                f"{_described(rule)}: nothing at {first!r} on the way {at[: number + 1]}"
            )
    return here


def _named(root: Any, name: str, rule: Any) -> Any:
    """The entry of the part with that name, for a list type that of its elements."""
    entries = root if isinstance(root, list) else ()
    found = next((entry for entry in entries if _has(entry, {"name": name})), None)
    if found is None or found.get("element-type") == name:
        raise OverlayError(f"{_described(rule)}: no entry {name!r}")
    return _named(root, found["element-type"], rule) if "element-type" in found else found


def _walk(root: Any, at: tuple[Any, ...], rule: OverlayRule) -> Any:
    """The whole part with what is at the end of `at` changed."""

    def step(value: Any, rest: tuple[Any, ...]) -> Any:
        if not rest:
            return rule.change(value, root)
        first, after = rest[0], rest[1:]
        if isinstance(first, dict):
            return _matching(value, first, lambda item: step(item, after), rule)
        if first == "*" and isinstance(value, dict):
            return {name: step(item, after) for name, item in value.items()}
        if not isinstance(value, dict) or first not in value:
            raise OverlayError(f"{rule.part}: no {first!r} on the way {rule.at}")
        return {**value, first: step(value[first], after)}

    for number, first in enumerate(at):
        if isinstance(first, str) and first.startswith("->"):
            target = _value_at(root, at[: number + 1], rule).get("name")
            return _walk(root, ({"name": target}, *at[number + 1 :]), rule)
    return step(root, at)


def _matching(
    value: Any, members: dict[str, Any], change: Callable[[Any], Any], rule: OverlayRule
) -> list[Any]:
    hits = [_has(item, members) for item in (value if isinstance(value, list) else ())]
    if not any(hits):
        raise OverlayError(f"{rule.part}: nothing has {members} on the way {rule.at}")
    return [change(item) if hit else item for item, hit in zip(value, hits, strict=True)]


def _has(item: Any, members: dict[str, Any]) -> bool:
    return isinstance(item, dict) and all(item.get(k) == v for k, v in members.items())


def _described(rule: Any) -> str:
    return rule.part if isinstance(rule, OverlayRule) else _short(rule)


# -- what a part looks like stays as it is: its readers rely on it -----------------------------


def _replaced(old: Any, new: Any) -> Any:
    _check_alike(old, new)
    return new


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        raise OverlayError(f"merge takes an object into an object, not {_short(new)}")
    for name in old.keys() & new.keys():
        _check_alike(old[name], new[name])
    return {**old, **new}


def _appended(old: Any, values: list[Any]) -> Any:
    if not isinstance(old, list):
        raise OverlayError(f"append takes an element into a list, not into {_short(old)}")
    for value in values:
        if old and _KINDS[old[0].__class__] is not _KINDS[value.__class__]:
            raise OverlayError(f"{_short(value)} is not what the others in the list are")
    return [*old, *(value for value in values if value not in old)]


def _check_alike(old: Any, new: Any) -> None:
    if old is None or new is None:
        return
    if _KINDS[old.__class__] is not _KINDS[new.__class__]:
        raise OverlayError(f"{_short(new)} is not what is there: {_short(old)}")
    if isinstance(old, dict):
        if missing := sorted(old.keys() - new.keys()):
            raise OverlayError(f"{_short(new)} lacks {', '.join(missing)}")
        for name in old:
            _check_alike(old[name], new[name])


#: Python's classes of JSON values -> those that may stand for each other
_KINDS: dict[type, object] = {
    dict: dict, list: list, str: str, bool: bool, int: float, float: float, type(None): None,
}  # fmt: skip


def _short(value: Any) -> str:
    return json.dumps(value, default=repr)[:200]
