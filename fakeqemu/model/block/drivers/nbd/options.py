"""Which server and which export options of driver nbd mean, and connections made ahead.

See block/nbd.c: nbd_process_options() and nbd_parse_filename().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from fakeqemu.formats.nbd import wire
from fakeqemu.model.block.nbd_connection import ExportAddress, NbdClientConnection
from fakeqemu.qapi import qdict
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes
from fakeqemu.qapi.readers.sockets import InetTraits, inet_parse

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph

_DEFAULT_PORT = "10809"
_NO_SERVER = "NBD server address missing"


def target_of(options: dict[str, Any]) -> ExportAddress:
    """The server and the export that options name. Raises QapiError.

    See block/nbd.c: nbd_process_options().
    """
    export, context = options.get("export", ""), options.get("x-dirty-bitmap")
    server = _server(options)
    if len(c_bytes(export)) > wire.LONGEST_NAME:
        raise QapiError("export name too long to send to server")
    if context is not None and len(c_bytes(context)) > wire.LONGEST_NAME:
        raise QapiError("x-dirty-bitmap query too long to send to server")
    return ExportAddress(
        server,
        export,
        context or "base:allocation",
        int(options.get("reconnect-delay", 0)),
        int(options.get("open-timeout", 0)),
    )


def _server(options: dict[str, Any]) -> dict[str, Any]:
    """The address, which older options give in other words.

    See block/nbd.c: nbd_process_legacy_socket_options() and nbd_config().
    """
    server, path, host, port = (options.get(name) for name in ("server", "path", "host", "port"))
    if server is not None and (path or host or port):
        raise QapiError("Cannot use 'server' and path/host/port at the same time")
    if path and host:
        raise QapiError("path and host may not be used at the same time")
    if path and port:
        raise QapiError("port may not be used without host")
    if path:
        return {"type": "unix", "path": path}
    if host:
        return {"type": "inet", "host": host, "port": port or _DEFAULT_PORT}
    if not server:
        raise QapiError(_NO_SERVER)
    found: dict[str, Any] = dict(server)
    return found


def parse_filename(filename: str, traits: InetTraits) -> dict[str, Any]:
    """`nbd:host:port`, `nbd:unix:path` or a URL as options. Raises QapiError."""
    if "://" in filename:
        return _parse_uri(filename)
    place, marked, export = filename.partition(":exportname=")
    found: dict[str, Any] = {"export": export} if export else {}
    if marked and not export:
        return {}
    if not place.startswith("nbd:"):
        raise QapiError("File name string for NBD must start with 'nbd:'")
    place = place.removeprefix("nbd:")
    if place.startswith("unix:"):
        found["server"] = {"type": "unix", "path": place.removeprefix("unix:")}
    elif place:
        address = inet_parse(place, traits)
        found["server"] = {"type": "inet", "host": address["host"], "port": address["port"]}
    return found


def _parse_uri(filename: str) -> dict[str, Any]:
    """See block/nbd.c: nbd_parse_uri()."""
    wrong = QapiError("No valid URL specified")
    try:
        uri = urlsplit(filename)
        port = uri.port
    except ValueError:
        raise wrong from None
    is_unix = uri.scheme == "nbd+unix"
    query = dict(parse_qsl(uri.query, keep_blank_values=True))
    if uri.scheme not in ("nbd", "nbd+tcp", "nbd+unix") or len(query) != int(is_unix):
        raise wrong
    export = uri.path.removeprefix("/")
    found: dict[str, Any] = {"export": export} if export else {}
    if is_unix:
        if uri.netloc or "socket" not in query:
            raise wrong
        return {**found, "server": {"type": "unix", "path": query["socket"]}}
    if not uri.hostname:
        raise wrong
    port_text = str(port) if port else _DEFAULT_PORT
    return {**found, "server": {"type": "inet", "host": uri.hostname, "port": port_text}}


# -- connecting ahead ----------------------------------------------------------------------------


def take_connection(graph: Graph, target: ExportAddress) -> NbdClientConnection:
    """The one that was made ahead, or one that is made now. Raises QapiError."""
    made = graph.connections.pop(_key(target), None)
    if isinstance(made, QapiError):
        raise made
    if made is None:
        made = NbdClientConnection(target, graph.process)
        made.connect_now()
    return made


def _key(target: ExportAddress) -> str:
    return repr((sorted(target.server.items()), target.export, target.context))


def _wanted(graph: Graph, options: Any) -> Iterator[ExportAddress]:
    """The exports that nodes in `options` are of, at any depth.

    What cannot be read is left to who opens it, and so is a node whose name is refused: it is
    before anybody connects (see block.c: bdrv_open_driver()). A file name of another driver is
    that of a file, whatever it looks like.
    """
    if isinstance(options, list):
        for value in options:
            yield from _wanted(graph, value)
    elif isinstance(options, dict):
        if options.get("driver") != "nbd":
            for value in options.values():
                yield from _wanted(graph, value)
            return
        given = options
        if "filename" in options:
            given = {**options, **_parsed(options["filename"], graph.process.profile.traits)}
        if "tls-creds" not in given and _is_free(graph, options.get("node-name")):
            yield from _named(lambda: target_of(given))


def _is_free(graph: Graph, name: str | None) -> bool:
    try:
        graph.check_name(name)
    except QapiError:
        return False
    return True


def _parsed(filename: str, traits: InetTraits) -> dict[str, Any]:
    try:
        return parse_filename(filename, traits)
    except QapiError:
        return {}


def _named(read: Callable[[], ExportAddress]) -> Iterator[ExportAddress]:
    try:
        yield read()
    except QapiError:
        return


def connect_all(graph: Graph, options: Any, done: Callable[[], None]) -> bool:
    """Connect to every server that `options` name; False if they name none.

    `done()` follows. What went wrong is told to the node that takes the connection: another one
    may be refused before.
    """
    targets = [each for each in _wanted(graph, options) if _key(each) not in graph.connections]
    if not targets:
        return False
    _connect(graph, targets, done)
    return True


def _connect(graph: Graph, targets: list[ExportAddress], done: Callable[[], None]) -> None:
    if not targets:
        done()
        return
    first, *rest = targets
    made = NbdClientConnection(first, graph.process)

    def connected(error: QapiError | None) -> None:
        if error is not None:
            made.close()
            graph.connections[_key(first)] = error
            done()
            return
        graph.connections[_key(first)] = made
        _connect(graph, rest, done)

    made.connect(connected)


def drop_unused(graph: Graph) -> None:
    """Close connections that were made ahead, and that no node has taken."""
    while graph.connections:
        _, made = graph.connections.popitem()
        if not isinstance(made, QapiError):
            made.close()


def refuse_beside_filename(options: dict[str, Any]) -> None:
    """Raise QapiError for options that a file name gives already.

    See block/nbd.c: nbd_has_filename_options_conflict().
    """
    for key, _ in qdict.items(options):
        if key in ("host", "port", "path", "export") or key.startswith("server."):
            raise QapiError(f"Option '{key}' cannot be used with a file name")
