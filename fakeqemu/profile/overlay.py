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

What it finds is changed by `set` (replace), `merge` (add members) or `append` (add an
element, once). A step that finds nothing is an error: a rule that no longer fits must not
pass unseen. Values are copied along the way, never changed in place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fakeqemu.profile.packing import Packed, pack

Change = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class OverlayRule:
    """One change to one part."""

    #: the part it changes
    part: str
    #: the way to the value it changes
    at: tuple[Any, ...]
    #: new value from old
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
        plain = _walk(plain, rule.at, rule)(plain)
    return Packed(pack(plain)) if packed else plain


def _parse(rule: dict[str, Any]) -> OverlayRule:
    changes: dict[str, Callable[[Any], Change]] = {
        "set": lambda new: lambda _old: new,
        "merge": lambda new: lambda old: {**old, **new},
        "append": lambda new: lambda old: old if new in old else [*old, new],
    }
    kinds = [kind for kind in changes if kind in rule]
    if len(kinds) != 1 or set(rule) - {"part", "at", "why", kinds[0]}:
        raise OverlayError(f"not a rule: {rule}")
    return OverlayRule(rule["part"], tuple(rule["at"]), changes[kinds[0]](rule[kinds[0]]))


def _walk(root: Any, at: tuple[Any, ...], rule: OverlayRule) -> Change:
    """The change of the whole part that applies `rule` at the end of `at`."""

    def step(value: Any, rest: tuple[Any, ...]) -> Any:
        if not rest:
            return rule.change(value)
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
            target = _follow(root, at[:number], first[2:], rule)
            return _walk(root, ({"name": target}, *at[number + 1 :]), rule)
    return lambda value: step(value, at)


def _matching(value: Any, members: dict[str, Any], change: Change, rule: OverlayRule) -> list[Any]:
    hits = [all(item.get(k) == v for k, v in members.items()) for item in value]
    if not any(hits):
        raise OverlayError(f"{rule.part}: nothing has {members} on the way {rule.at}")
    return [change(item) if hit else item for item, hit in zip(value, hits, strict=True)]


def _follow(root: Any, at: tuple[Any, ...], member: str, rule: OverlayRule) -> Any:
    here = root
    for first in at:
        if isinstance(first, dict):
            here = next(
                (i for i in here if all(i.get(k) == v for k, v in first.items())), None
            )
        else:
            here = here.get(first)
        if here is None:
            raise OverlayError(f"{rule.part}: nothing at {first!r} on the way {rule.at}")
    return here[member]
