"""Which queues of a virtio device an iothread works for: the property iothread-vq-mapping.

See hw/virtio/iothread-vq-mapping.c: iothread_vq_mapping_validate(); hw/block/virtio-blk.c:
virtio_blk_vq_aio_context_init(); qapi/virtio.json.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import QapiError

Mapping = list[dict[str, Any]]
NAME = "iothread-vq-mapping"
_LARGEST = 0xFFFF


def parse(value: Any) -> Mapping:
    """The property's value; QEMU reads it from JSON only. Raises QapiError."""
    if not isinstance(value, list):
        raise QapiError(texts.invalid_parameter_type(NAME, "array"))
    for number, each in enumerate(value):
        place = f"{NAME}[{number}]"
        if not isinstance(each, dict):
            raise QapiError(texts.invalid_parameter_type(place, "object"))
        if "iothread" not in each:
            raise QapiError(f"Parameter '{place}.iothread' is missing")
        if not isinstance(each["iothread"], str):
            raise QapiError(texts.invalid_parameter_type(f"{place}.iothread", "string"))
        for key in each:
            if key not in ("iothread", "vqs"):
                raise QapiError(f"Parameter '{place}.{key}' is unexpected")
        queues = each.get("vqs", [])
        if not isinstance(queues, list):
            raise QapiError(texts.invalid_parameter_type(f"{place}.vqs", "array"))
        for index, queue in enumerate(queues):
            if isinstance(queue, bool) or not isinstance(queue, int):
                raise QapiError(
                    texts.invalid_parameter_type(f"{place}.vqs[{index}]", "integer")
                )
            if not 0 <= queue <= _LARGEST:
                raise QapiError(texts.parameter_expects(f"{place}.vqs[{index}]", "uint16_t"))
    return value


def check(mapping: Mapping, iothreads: Collection[str], queues: int) -> None:
    """Whether each queue has one iothread of those there are. Raises QapiError."""
    seen: set[str] = set()
    taken: set[int] = set()
    explicit = bool(mapping and mapping[0].get("vqs"))
    for each in mapping:
        name, asked = each["iothread"], each.get("vqs", [])
        if name not in iothreads:
            raise QapiError(f'IOThread "{name}" object does not exist')
        if name in seen:
            raise QapiError(f'duplicate IOThread name "{name}" in {NAME}')
        seen.add(name)
        if bool(asked) != explicit:
            raise QapiError(
                f"either all items in {NAME} must have vqs or none of them must have it"
            )
        for queue in asked:
            if queue >= queues:
                raise QapiError(
                    f'vq index {queue} for IOThread "{name}" must be less than num_queues '
                    f"{queues} in {NAME}"
                )
            if queue in taken:
                raise QapiError(
                    f'cannot assign vq {queue} to IOThread "{name}" because it is already assigned'
                )
            taken.add(queue)
    for queue in range(queues if explicit else 0):
        if queue not in taken:
            raise QapiError(f"missing vq {queue} IOThread assignment in {NAME}")
