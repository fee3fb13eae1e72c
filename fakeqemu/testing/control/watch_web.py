"""`fakeqemu watch --web`: the same as a page, with server-sent events."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from fakeqemu.testing.addresses import is_loopback, parse_address

if TYPE_CHECKING:
    from fakeqemu.testing.control.watch import MachineView

#: seconds after which a browser is sent something, so that one that has gone is noticed
_BEAT = 5.0

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>fakeqemu watch</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fafafa }
h1 { font-size: 1.1em } #gone { color: #b00 }
.machine { background: #fff; border: 1px solid #ddd; border-radius: 6px; padding: .7em 1em;
  margin: .7em 0 }
.machine h2 { font-size: 1em; margin: 0 } .status { font-weight: normal; color: #555 }
.running { color: #070 } .ended { color: #b00 }
.bar { background: #e6e6e6; height: 10px; border-radius: 5px; overflow: hidden; max-width: 30em }
.bar div { background: #37c; height: 100% }
pre { margin: .4em 0 0; font-size: 12px; overflow-x: auto; color: #444 }
svg { display: block; width: 30em; height: 60px; background: #f3f6fb } polyline { fill: none;
  stroke: #37c; stroke-width: 1.5 }
</style></head><body>
<h1>fakeqemu watch <span id="sum"></span> <span id="gone"></span></h1><div id="machines"></div>
<script>
function add(parent, kind, text, name) {
  const made = document.createElement(kind);
  if (text) made.textContent = text;
  if (name) made.className = name;
  parent.appendChild(made);
  return made;
}
function plot(parent, points) {
  if (points.length < 2) return;
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg"), line = document.createElementNS(ns, "polyline");
  const first = points[0][0], span = points[points.length - 1][0] - first || 1;
  const most = Math.max(...points.map(p => p[1])) || 1;
  svg.setAttribute("viewBox", "0 0 400 60");
  svg.setAttribute("preserveAspectRatio", "none");
  line.setAttribute("points", points.map(
    p => (p[0] - first) / span * 400 + "," + (58 - p[1] / most * 56)).join(" "));
  svg.appendChild(line);
  parent.appendChild(svg);
}
function show(machines) {
  const all = document.getElementById("machines");
  all.replaceChildren();
  document.getElementById("sum").textContent = machines.length + " machines, "
    + machines.reduce((n, m) => n + m.rate, 0).toFixed(0) + " commands/s, "
    + machines.reduce((n, m) => n + m.struck, 0) + " faults struck";
  for (const m of machines) {
    const box = add(all, "div", "", "machine"), head = add(box, "h2", m.name + " ");
    const ended = m["exit-code"] !== null;
    add(head, "span", m.profile + " " + m.status + (ended ? ", ended with " + m["exit-code"] : ""),
      "status " + (ended ? "ended" : m.status));
    add(box, "div", m.commands + " commands, " + m.rate + "/s");
    for (const [side, status] of Object.entries(m.migration)) {
      const sent = side == "outgoing" && m.passes
        ? ", pass " + m.passes + ", " + m.left + " bytes left" : "";
      add(box, "div", side + " migration: " + status + sent);
    }
    if (m.passes) {
      const bar = add(box, "div", "", "bar");
      add(bar, "div").style.width = m.share * 100 + "%";
      plot(box, m.plot);
    }
    for (const [job, about] of Object.entries(m.jobs))
      add(box, "div", "job " + job + ": " + about.join(" "));
    if (m.struck) add(box, "div", m.struck + " faults, last: " + m.faults.join(", "));
    if (machines.length <= 20) add(box, "pre", m.lines.join("\\n"));
  }
}
const source = new EventSource("events");
source.onmessage = message => {
  document.getElementById("gone").textContent = "";
  show(JSON.parse(message.data));
};
source.onerror = () => { document.getElementById("gone").textContent = "(not connected)"; };
</script></body></html>
"""


class WatchServer:
    """Serves the page at an address of the loopback. Use it with `with`."""

    def __init__(self, address: str) -> None:
        """Raises OSError, and ValueError for an address that others could reach."""
        kind, where = parse_address(address)
        if kind != "tcp" or not is_loopback(str(where[0])):
            raise ValueError(
                f"the page is for this host alone: --web takes tcp:127.0.0.1:PORT, not {address!r}"
            )
        self._changed = threading.Condition()
        self._text = ""
        self._count = 0
        self._ended = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            def do_GET(self) -> None:
                server.serve(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Nobody reads it."""

        assert isinstance(where, tuple)
        try:
            self._http = ThreadingHTTPServer(where, Handler)
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), address) from None
        self._http.daemon_threads = True
        host, port = self._http.server_address[:2]
        self.url = f"http://{host!s}:{port}/"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    def __enter__(self) -> WatchServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._http.shutdown()
        self._http.server_close()

    def show(self, machines: Mapping[str, MachineView]) -> None:
        """Send this to every browser, if it is new."""
        text = json.dumps([view.plain() for view in machines.values()])
        with self._changed:
            if text != self._text:
                self._text = text
                self._count += 1
                self._changed.notify_all()

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        """The page, or the events."""
        # a browser leaves port 80 out
        name = (request.headers.get("Host") or "").partition(":")[0]
        if not is_loopback(name):
            request.send_error(403)  # another name for this address is somebody else's page
        elif request.path == "/":
            self._answer(request, "text/html; charset=utf-8", PAGE.encode())
        elif request.path == "/events":
            self._events(request)
        else:
            request.send_error(404)

    @staticmethod
    def _answer(request: BaseHTTPRequestHandler, kind: str, body: bytes | None) -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Cache-Control", "no-store")
        if body is not None:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if body is not None:
            request.wfile.write(body)

    def _events(self, request: BaseHTTPRequestHandler) -> None:
        self._answer(request, "text/event-stream", None)
        seen = 0
        try:
            while True:
                with self._changed:
                    if self._count == seen and not self._ended:
                        self._changed.wait(_BEAT)
                    text, count, ended = self._text, self._count, self._ended
                if ended:
                    return
                line = f"data: {text}\n\n" if count != seen else ": still here\n\n"
                seen = count
                request.wfile.write(line.encode())
                request.wfile.flush()
        except OSError:
            return  # it has gone
