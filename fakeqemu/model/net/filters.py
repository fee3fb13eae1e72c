"""Network filters: what they do with the frames of the netdev they sit on.

See net/filter.c, net/dump.c, net/filter-mirror.c and net/filter-buffer.c. The rewriter and the
replay filter change nothing outside COLO and record/replay.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from fakeqemu.model.net.sockets.framing import FrameReader, OversizedFrameError
from fakeqemu.qapi.errors import DeviceNotFoundError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.chardev.chardevs import Chardevs
    from fakeqemu.model.dump.output import DumpOutput
    from fakeqemu.model.net.client import NetClient
    from fakeqemu.model.process import Process
    from fakeqemu.model.qom.user_creatable import Objects
    from fakeqemu.model.qom.user_object import UserObject

#: a pcap file's header: magic, version 2.4, time zone, accuracy, largest frame, Ethernet
_PCAP_HEADER = struct.Struct("<IHHiIII")
_PCAP_MAGIC = 0xA1B2C3D4
_PCAP_ETHERNET = 1
#: seconds, microseconds, bytes that follow, bytes the frame had
_PCAP_RECORD = struct.Struct("<IIII")
_MAX_LENGTH = 65536
_MICROSECOND = 1000
_SECOND = 1_000_000

#: called with a frame that a filter has kept, to send it on
Forward = Callable[[bytes], None]


class NetFilter:
    """One filter object at work; this one lets everything pass."""

    def __init__(self, filters: Filters, obj: UserObject) -> None:
        self.filters = filters
        self.obj = obj

    def sees(self, direction: str) -> bool:
        """Whether it is on and looks at `direction`: "tx" from the netdev, "rx" to it."""
        wanted = self.obj.get("queue") if self.obj.has("queue") else "all"
        return self.obj.get("status") == "on" and wanted in ("all", direction)

    def take(self, frame: bytes, forward: Forward) -> bool:  # noqa: ARG002
        """Look at a frame; True if it goes no further, or only by `forward` later."""
        return False

    def close(self) -> None:
        """The object has gone."""


class FilterDump(NetFilter):
    """filter-dump: a pcap file."""

    def __init__(self, filters: Filters, obj: UserObject) -> None:
        super().__init__(filters, obj)
        self._limit: int = obj.options.get("maxlen", _MAX_LENGTH)
        path: str = obj.options["file"]
        try:
            self._output: DumpOutput = filters.process.host.create_output(path, 0o644)
        except OSError as error:
            text = filters.process.profile.traits.net_dump_text
            raise QapiError(text.format(path, error.strerror)) from None
        header = (_PCAP_MAGIC, 2, 4, 0, 0, self._limit, _PCAP_ETHERNET)
        self._write(_PCAP_HEADER.pack(*header))

    def take(self, frame: bytes, forward: Forward) -> bool:  # noqa: ARG002
        """Write it down."""
        kept = frame[: self._limit]
        now = self.filters.process.clock.realtime() // _MICROSECOND
        record = _PCAP_RECORD.pack(now // _SECOND, now % _SECOND, len(kept), len(frame))
        self._write(record + kept)
        return False

    def close(self) -> None:
        """Close the file."""
        self._output.close()

    def _write(self, data: bytes) -> None:
        try:
            self._output.write([data])
        except OSError as error:
            self.filters.process.host.warn(
                f"network dump write error - stopping dump: {error.strerror}"
            )
            self._write = lambda data: None  # type: ignore[method-assign]  # noqa: ARG005


class FilterMirror(NetFilter):
    """filter-mirror: a copy to a character device."""

    def take(self, frame: bytes, forward: Forward) -> bool:  # noqa: ARG002
        """Copy it."""
        self.copy(frame)
        return False

    def copy(self, frame: bytes) -> bool:
        """Send the frame to `outdev`; False if it has no connection."""
        chardev = self._outdev()
        if chardev is None or not chardev.connected:
            return False
        header = len(frame).to_bytes(4, "big")
        if self.obj.options.get("vnet_hdr_support"):
            header += bytes(4)
        chardev.write(header + frame)
        return True

    def _outdev(self) -> Chardev | None:
        return self.filters.chardevs.get(self.obj.options.get("outdev", ""))


class Redirector(FilterMirror):
    """filter-redirector: frames to one character device, and others from another."""

    def __init__(self, filters: Filters, obj: UserObject) -> None:
        super().__init__(filters, obj)
        self._frames = FrameReader()

    def take(self, frame: bytes, forward: Forward) -> bool:  # noqa: ARG002
        """Redirect the frame instead of passing it on, if `outdev` is connected."""
        return self.copy(frame)

    def feed(self, data: bytes) -> None:
        """Frames from `indev` go on from here."""
        try:
            for frame in self._frames.feed(data):
                self.filters.inject(self, frame)
        except OversizedFrameError:
            self._frames = FrameReader()


class Buffer(NetFilter):
    """filter-buffer: keeps frames back and releases them every `interval` microseconds."""

    def __init__(self, filters: Filters, obj: UserObject) -> None:
        super().__init__(filters, obj)
        self._kept: list[tuple[bytes, Forward]] = []

    def take(self, frame: bytes, forward: Forward) -> bool:
        """Keep it."""
        if not self._kept:
            interval = self.obj.options.get("interval", 0) * _MICROSECOND
            self.filters.process.clock.call_later(interval, self._release)
        self._kept.append((frame, forward))
        return True

    def close(self) -> None:
        """Release what is kept."""
        self._release()

    def _release(self) -> None:
        kept, self._kept = self._kept, []
        for frame, forward in kept:
            forward(frame)


class FilterInput:
    """The frontend on a filter's character device."""

    can_hotswap = False

    def __init__(self, feed: Callable[[bytes], None] | None = None) -> None:
        self._feed = feed

    def chr_opened(self) -> None:
        """A client is there."""

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:  # noqa: ARG002
        """Frames, if it is `indev`."""
        if self._feed is not None:
            self._feed(data)

    def chr_closed(self) -> None:
        """The client has gone."""


_KINDS: dict[str, type[NetFilter]] = {
    "filter-dump": FilterDump,
    "filter-mirror": FilterMirror,
    "filter-redirector": Redirector,
    "filter-buffer": Buffer,
}


class Filters:
    """The filters of all netdevs."""

    def __init__(
        self,
        process: Process,
        chardevs: Chardevs,
        objects: Objects,
        backends: Callable[[], Mapping[str, NetClient]],
    ) -> None:
        """`backends`: the clients that are no NICs, at the moment."""
        self.process = process
        self.chardevs = chardevs
        self._objects = objects
        self._backends = backends
        self._filters: dict[UserObject, NetFilter] = {}
        objects.completers["netfilter"] = self._complete

    def add(self, obj: UserObject) -> NetFilter:
        """A filter object has been made. Raises QapiError."""
        made = _KINDS.get(obj.type, NetFilter)(self, obj)
        self._filters[obj] = made
        obj.on_delete.append(lambda: self._remove(obj))
        return made

    def _complete(self, obj: UserObject) -> None:
        """See net/filter.c: netfilter_complete(). Raises QapiError."""
        netdev = obj.values.get("netdev")
        if netdev not in self._backends():
            raise QapiError("Parameter 'netdev' expects a network backend id")
        position = obj.values.get("position", "tail")
        if position not in ("head", "tail"):
            if not position.startswith("id="):
                raise QapiError("Parameter 'position' expects 'head', 'tail' or 'id=<id>'")
            if self._objects.get(position[3:]) is None:
                raise QapiError(f"filter '{position[3:]}' not found")
        if obj.type == "filter-redirector":
            ends = [obj.options.get(name) for name in ("indev", "outdev")]
            if ends == [None, None]:
                raise QapiError(
                    "filter redirector needs 'indev' or 'outdev' at least one property set"
                )
            if ends[0] == ends[1]:
                raise QapiError("'indev' and 'outdev' could not be same for filter redirector")
        for name in ("indev", "outdev"):
            if obj.options.get(name) is not None and obj.options[name] not in self.chardevs:
                raise DeviceNotFoundError(f"Device '{obj.options[name]}' not found")
        filter = self.add(obj)
        if obj.type in ("filter-mirror", "filter-redirector"):
            for name in ("indev", "outdev"):
                if obj.options.get(name) is not None:
                    chardev = self.chardevs[obj.options[name]]
                    if chardev.busy:
                        text = self.process.profile.traits.chardev_in_use_text
                        raise QapiError(text.format(chardev.id))
                    redirector = filter if isinstance(filter, Redirector) else None
                    feed = redirector.feed if redirector and name == "indev" else None
                    chardev.attach(FilterInput(feed), fe_open=False)
                    obj.on_delete.append(chardev.detach)

    def take(self, sender: NetClient, peer: NetClient, frame: bytes) -> bool:
        """Show a frame to the filters on its way; True if one has kept it."""
        if not self._filters:
            return False
        chain = [f for f in self._of(sender) if f.sees("tx")]
        chain += [f for f in reversed(self._of(peer)) if f.sees("rx")]
        return self._pass(chain, sender, peer, frame)

    def inject(self, origin: NetFilter, frame: bytes) -> None:
        """Send a frame on as if `origin` had seen it."""
        netdev = self._backends().get(str(origin.obj.options.get("netdev")))
        if netdev is None or netdev.peer is None:
            return
        peer, chain = netdev.peer, self._of(netdev)
        place = chain.index(origin)
        if origin.sees("tx"):
            rest = [f for f in chain[place + 1 :] if f.sees("tx")]
            if not self._pass(rest, netdev, peer, frame):
                peer.enqueue(netdev, frame, None)
        if origin.sees("rx"):
            rest = [f for f in reversed(chain[:place]) if f.sees("rx")]
            if not self._pass(rest, peer, netdev, frame):
                netdev.enqueue(peer, frame, None)

    def _pass(
        self, chain: list[NetFilter], sender: NetClient, peer: NetClient, frame: bytes
    ) -> bool:
        for place, each in enumerate(chain):
            rest = chain[place + 1 :]

            def forward(frame: bytes, rest: list[NetFilter] = rest) -> None:
                if sender.peer is peer and not self._pass(rest, sender, peer, frame):
                    peer.enqueue(sender, frame, None)

            if each.take(frame, forward):
                return True
        return False

    def _of(self, client: NetClient) -> list[NetFilter]:
        if client.type == "nic":
            return []
        objects = self._objects.filters_of(client.name)
        return [self._filters[obj] for obj in objects if obj in self._filters]

    def _remove(self, obj: UserObject) -> None:
        gone = self._filters.pop(obj, None)
        if gone is not None:
            gone.close()
