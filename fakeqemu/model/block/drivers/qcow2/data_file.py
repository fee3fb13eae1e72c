"""The external data file of a qcow2 image: the child `data-file`, given or named by the header.

See block/qcow2.c: qcow2_do_open().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.formats.qcow2.header import RAW_DATA
from fakeqemu.formats.qcow2.image import Qcow2
from fakeqemu.model.block.drivers.qcow2.stores import ChildStore
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.filenames import FileArgument
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph
    from fakeqemu.model.block.graph.node import Node

NAME = "data-file"
_ROLE = frozenset({perms.DATA})


def open_data_file(graph: Graph, node: Node, image: Qcow2, options: dict[str, Any]) -> None:
    """Have the image's data where they are. Raises QapiError."""
    given = options.pop(NAME, None)
    named = image.header.data_file if image.external else ""
    if NAME not in node.children and (given is not None or named):
        if not isinstance(given, str):
            partial = dict(given or {})
            whole = partial.keys() & {"driver", "filename", "file"}
            given = partial if whole or not named else {"filename": FileArgument(named), **partial}
        _attach(graph, node, given)
    if image.external:
        if NAME not in node.children:
            raise QapiError("'data-file' is required for this image")
        node.children["file"].role = perms.IMAGE - {perms.DATA}
        image.data = ChildStore(node, NAME)
    elif NAME in node.children:
        raise QapiError("'data-file' can only be set for images with an external data file")
    elif image.header.autoclear & RAW_DATA:
        raise QapiError("data-file-raw requires a data file")


def _attach(graph: Graph, node: Node, given: dict[str, Any] | str) -> None:
    from fakeqemu.model.block.graph.open import open_node

    below = open_node(graph, given, parent=node, role=_ROLE)
    if isinstance(given, dict):
        below.inherits_from = node
    with graph.referenced(below):
        graph.attach(node, NAME, below, _ROLE)
