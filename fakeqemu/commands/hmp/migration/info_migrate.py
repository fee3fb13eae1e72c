"""How the human monitor prints migration: parameters, and `info migrate` in two styles.

See migration/migration-hmp-cmds.c: hmp_info_migrate() and hmp_info_migrate_parameters().
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fakeqemu.migration.channels.address import socket_uri
from fakeqemu.traits import Traits

_MS, _BYTES, _RATE, _MB_RATE = " ms", " bytes", " bytes/second", " MB/s"
_QUOTED, _PLAIN = "quoted", ""

#: (parameter, unit or manner) in the order printed; what a version lacks is left out
_PARAMETERS: tuple[tuple[str, str], ...] = (
    ("announce-initial", _MS),
    ("announce-max", _MS),
    ("announce-rounds", _PLAIN),
    ("announce-step", _MS),
    ("compress-level", _PLAIN),
    ("compress-threads", _PLAIN),
    ("compress-wait-thread", _PLAIN),
    ("decompress-threads", _PLAIN),
    ("throttle-trigger-threshold", _PLAIN),
    ("cpu-throttle-initial", _PLAIN),
    ("cpu-throttle-increment", _PLAIN),
    ("cpu-throttle-tailslow", _PLAIN),
    ("max-cpu-throttle", _PLAIN),
    ("tls-creds", _QUOTED),
    ("tls-hostname", _QUOTED),
    ("max-bandwidth", _RATE),
    ("avail-switchover-bandwidth", _RATE),
    ("downtime-limit", _MS),
    ("x-checkpoint-delay", _MS),
    ("block-incremental", _PLAIN),
    ("multifd-channels", _PLAIN),
    ("multifd-compression", _PLAIN),
    ("zero-page-detection", _PLAIN),
    ("xbzrle-cache-size", _BYTES),
    ("max-postcopy-bandwidth", _PLAIN),
    ("tls-authz", _QUOTED),
    ("block-bitmap-mapping", "mapping"),
    ("x-vcpu-dirty-limit-period", _MS),
    ("vcpu-dirty-limit", _MB_RATE),
    ("mode", _PLAIN),
    ("local", _PLAIN),
    ("direct-io", _PLAIN),
    ("x-rdma-chunk-size", _BYTES),
    ("cpr-exec-command", "command"),
)

#: where newer versions print a parameter instead: parameter -> (after which, manner)
_REGROUPED = {
    "tls-authz": ("tls-hostname", _QUOTED),
    "max-postcopy-bandwidth": ("avail-switchover-bandwidth", _RATE),
}


def parameters(
    traits: Traits, values: dict[str, Any], capabilities: Iterable[str] = ()
) -> str:
    """`info migrate_parameters`; `capabilities`: those that are parameters too."""
    lines = [*_PARAMETERS, *((name, _PLAIN) for name in capabilities)]
    if traits.hmp_info_migrate_grouped:
        lines = [line for line in lines if line[0] not in _REGROUPED]
        for name, (after, manner) in _REGROUPED.items():
            names = [line[0] for line in lines]
            lines.insert(names.index(after) + 1, (name, manner))
    return "".join(
        _parameter(name, manner, values[name]) for name, manner in lines if name in values
    )


def _parameter(name: str, manner: str, value: Any) -> str:
    if manner == _QUOTED:
        return f"{name}: '{value}'\n"
    if manner == "command":
        words = "".join(f" {word}" for word in value)
        return f"{name}:{words}\n"
    if manner == "mapping":
        text = f"{name}:\n"
        for node in value:
            text += f"  '{node['node-name']}' -> '{node['alias']}'\n"
            for bitmap in node["bitmaps"]:
                text += f"    '{bitmap['name']}' -> '{bitmap['alias']}'\n"
        return text
    shown = ("on" if value else "off") if isinstance(value, bool) else value
    return f"{name}: {shown}{manner}\n"


# -- info migrate --------------------------------------------------------------------------------


def _blocked(info: dict[str, Any]) -> str:
    if "blocked-reasons" not in info:
        return ""
    lines = "".join(f"  {reason}\n" for reason in info["blocked-reasons"])
    return f"Outgoing migration blocked:\n{lines}"


def _status(info: dict[str, Any]) -> str:
    status: str = info["status"]
    if status == "failed" and "error-desc" in info:
        return f"{status} ({info['error-desc']})"
    return status


def plain_info(info: dict[str, Any], globals: list[tuple[str, str]]) -> str:
    """`info migrate` up to 10.x: one line each, globals always."""
    text = "globals:\n" + "".join(f"{name}: {value}\n" for name, value in globals)
    text += _blocked(info)
    if "status" in info:
        text += f"Migration status: {_status(info)}\n"
        text += f"total time: {info.get('total-time', 0)} ms\n"
        for member, label in (
            ("expected-downtime", "expected downtime"),
            ("downtime", "downtime"),
            ("setup-time", "setup"),
        ):
            if member in info:
                text += f"{label}: {info[member]} ms\n"
    if "ram" in info:
        text += _plain_ram(info["ram"])
    if "xbzrle-cache" in info:
        cache = info["xbzrle-cache"]
        text += (
            f"cache size: {cache['cache-size']} bytes\n"
            f"xbzrle transferred: {cache['bytes'] >> 10} kbytes\n"
            f"xbzrle pages: {cache['pages']} pages\n"
            f"xbzrle cache miss: {cache['cache-miss']} pages\n"
            f"xbzrle cache miss rate: {cache['cache-miss-rate']:.2f}\n"
            f"xbzrle encoding rate: {cache['encoding-rate']:.2f}\n"
            f"xbzrle overflow: {cache['overflow']}\n"
        )
    if "socket-address" in info:
        lines = "".join(f"\t{socket_uri(address)}\n" for address in info["socket-address"])
        text += f"socket address: [\n{lines}]\n"
    if "postcopy-blocktime" in info:
        text += f"postcopy blocktime: {info['postcopy-blocktime']}\n"
    if "postcopy-vcpu-blocktime" in info:
        times = ",".join(str(time) for time in info["postcopy-vcpu-blocktime"])
        text += f"postcopy vcpu blocktime: {times}\n"
    return text


def _plain_ram(ram: dict[str, Any]) -> str:
    text = (
        f"transferred ram: {ram['transferred'] >> 10} kbytes\n"
        f"throughput: {ram['mbps']:.2f} mbps\n"
        f"remaining ram: {ram['remaining'] >> 10} kbytes\n"
        f"total ram: {ram['total'] >> 10} kbytes\n"
        f"duplicate: {ram['duplicate']} pages\n"
    )
    if "skipped" in ram:
        text += f"skipped: {ram['skipped']} pages\n"
    text += (
        f"normal: {ram['normal']} pages\n"
        f"normal bytes: {ram['normal-bytes'] >> 10} kbytes\n"
        f"dirty sync count: {ram['dirty-sync-count']}\n"
        f"page size: {ram['page-size'] >> 10} kbytes\n"
        f"multifd bytes: {ram['multifd-bytes'] >> 10} kbytes\n"
        f"pages-per-second: {ram['pages-per-second']}\n"
    )
    if ram["dirty-pages-rate"]:
        text += f"dirty pages rate: {ram['dirty-pages-rate']} pages\n"
    if ram["postcopy-requests"]:
        text += f"postcopy request count: {ram['postcopy-requests']}\n"
    for member, label in (
        ("precopy-bytes", "precopy ram"),
        ("downtime-bytes", "downtime ram"),
        ("postcopy-bytes", "postcopy ram"),
    ):
        if ram[member]:
            text += f"{label}: {ram[member] >> 10} kbytes\n"
    return text


def _size(value: int) -> str:
    """A size as a person reads it: 70.7 MiB."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = min((max(value, 1).bit_length() - 1) // 10, len(units) - 1)
    return f"{value / (1 << (10 * power)):.3g} {units[power]}"


def grouped_info(info: dict[str, Any], globals: list[tuple[str, str]], *, all: bool) -> str:
    """`info migrate` of 11.x: in blocks; globals and XBZRLE with `-a` only."""
    text = _blocked(info)
    if "status" in info:
        text += f"Status: \t\t{_status(info)}\n"
        times = [
            f"{label}={info[member]}"
            for member, label in (
                ("total-time", "total"),
                ("setup-time", "setup"),
                ("expected-downtime", "exp_down"),
                ("downtime", "down"),
            )
            if member in info
        ]
        if times:
            text += f"Time (ms): \t\t{', '.join(times)}\n"
    if "remaining" in info:
        text += f"Remaining: \t\t{_size(info['remaining'])}\n"
    if "socket-address" in info:
        lines = "".join(f"\t{socket_uri(address)}\n" for address in info["socket-address"])
        text += f"Sockets: [\n{lines}]\n"
    if "ram" in info:
        text += _grouped_ram(info["ram"])
    if all:
        text += "Globals:\n" + "".join(f"  {name}: {value}\n" for name, value in globals)
        if "xbzrle-cache" in info:
            cache = info["xbzrle-cache"]
            text += (
                f"XBZRLE: size={cache['cache-size']}, transferred={cache['bytes']},"
                f" pages={cache['pages']}, miss={cache['cache-miss']}\n"
                f"  miss_rate={cache['cache-miss-rate']:.2f},"
                f" encode_rate={cache['encoding-rate']:.2f}, overflow={cache['overflow']}\n"
            )
    return text


def _grouped_ram(ram: dict[str, Any]) -> str:
    others = [f"dirty_syncs={ram['dirty-sync-count']}"]
    for member, label in (
        ("dirty-pages-rate", "dirty_pages_rate"),
        ("postcopy-requests", "postcopy_req"),
        ("downtime-bytes", "downtime_bytes"),
    ):
        if ram[member]:
            others.append(f"{label}={ram[member]}")
    return (
        "RAM info:\n"
        f"  Throughput (Mbps): \t{ram['mbps']:.2f}\n"
        f"  Sizes: \t\tpagesize={_size(ram['page-size'])}, total={_size(ram['total'])}\n"
        f"  Transfers: \t\ttransferred={_size(ram['transferred'])},"
        f" remain={_size(ram['remaining'])}\n"
        f"    Channels: \t\tprecopy={_size(ram['precopy-bytes'])},"
        f" multifd={_size(ram['multifd-bytes'])}, postcopy={_size(ram['postcopy-bytes'])}\n"
        f"    Page Types: \tnormal={ram['normal']}, zero={ram['duplicate']}\n"
        f"  Page Rates (pps): \ttransfer={ram['pages-per-second']}\n"
        f"  Others: \t\t{', '.join(others)}\n"
    )
