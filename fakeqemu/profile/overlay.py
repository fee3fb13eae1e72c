"""Hand-written rules laid over a recorded profile.

A profile that was never recorded (a QEMU that does not exist yet) says only how it differs
from one that was. `overlay.json`:

    {"base": "11.1", "rules": [
        {"part": "schema",
         "at": [{"name": "migrate-set-parameters"}, "->arg-type", "members"],
         "append": {"name": "local", "type": "bool", "default": null}}, ...]}

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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fakeqemu.profile.packing import Packed, pack

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


def parse_rules(rules: list[dict[str, Any]]) -> list[OverlayRule]:
    """The rules of an overlay file; OverlayError says which one is wrong."""
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
            value = _filled(new, root, rule)
            return old if value in old else [*old, value]

        return change

    def appended_each(new: Any) -> Change:
        def change(old: Any, root: Any) -> Any:
            values = [{**each, **new["with"]} for each in _value_at(root, new["of"], rule)]
            return [*old, *(value for value in values if value not in old)]

        return change

    changes: dict[str, Callable[[Any], Change]] = {
        "set": lambda new: lambda _old, root: _filled(new, root, rule),
        "merge": lambda new: lambda old, root: {**old, **_filled(new, root, rule)},
        "append": appended,
        "append-each": appended_each,
    }
    kinds = [kind for kind in changes if kind in rule]
    if len(kinds) != 1 or set(rule) - {"part", "at", "why", kinds[0]}:
        raise OverlayError(f"not a rule: {rule}")
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
    here = root
    for number, first in enumerate(at):
        if isinstance(first, str) and first.startswith("->"):
            here = _named(root, here[first[2:]], rule)
        elif isinstance(first, dict):
            here = next((i for i in here if all(i.get(k) == v for k, v in first.items())), None)
        else:
            here = here.get(first)
        if here is None:
            raise OverlayError(f"{rule}: nothing at {first!r} on the way {at[: number + 1]}")
    return here


def _named(root: Any, name: str, rule: Any) -> Any:
    """The entry of the part with that name, for a list type that of its elements."""
    found = next((entry for entry in root if entry["name"] == name), None)
    if found is None:
        raise OverlayError(f"{rule}: no entry {name!r}")
    return _named(root, found["element-type"], rule) if "element-type" in found else found


def _walk(root: Any, at: tuple[Any, ...], rule: OverlayRule) -> Any:
    """The whole part with what is at the end of `at` changed."""

    def step(value: Any, rest: tuple[Any, ...]) -> Any:
        if not rest:
            return rule.change(value, root)
        first, after = rest[0], rest[1:]
        if isinstance(first, dict):
            return _matching(value, first, lambda item: step(item, after), rule)
        if first == "*":
            return {name: step(item, after) for name, item in value.items()}
        if first not in value:
            raise OverlayError(f"{rule.part}: no {first!r} on the way {rule.at}")
        return {**value, first: step(value[first], after)}

    for number, first in enumerate(at):
        if isinstance(first, str) and first.startswith("->"):
            target = _value_at(root, at[: number + 1], rule)["name"]
            return _walk(root, ({"name": target}, *at[number + 1 :]), rule)
    return step(root, at)


def _matching(
    value: Any, members: dict[str, Any], change: Callable[[Any], Any], rule: OverlayRule
) -> list[Any]:
    hits = [all(item.get(k) == v for k, v in members.items()) for item in value]
    if not any(hits):
        raise OverlayError(f"{rule.part}: nothing has {members} on the way {rule.at}")
    return [change(item) if hit else item for item, hit in zip(value, hits, strict=True)]
