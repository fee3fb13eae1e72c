"""NUMA nodes as -numa and set-numa-node describe them.

See hw/core/numa.c: set_numa_options(), parse_numa_node() and numa_complete_configuration();
hw/core/machine.c: machine_set_cpu_numa_node().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.qom.user_creatable import Objects

_MAX_NODES = 128
_LOCAL_DISTANCE = 10


@dataclass(slots=True)
class NumaNode:
    """One node."""

    id: int
    #: bytes of memory
    mem: int = 0
    #: id of the backend its memory is; None when split off the machine's
    memdev: str | None = None
    #: node -> distance
    distances: dict[int, int] = field(default_factory=dict)


class Numa:
    """The nodes of one machine."""

    def __init__(self, state: MachineState, cpus: Cpus, objects: Objects) -> None:
        self._state = state
        self._cpus = cpus
        self._objects = objects
        self.nodes: dict[int, NumaNode] = {}

    def set_node(self, options: dict[str, Any]) -> None:
        """What -numa and set-numa-node do with checked NumaOptions. Raises QapiError."""
        machine = self._state.type
        if machine is None or machine.default_cpu_type is None:
            raise QapiError("NUMA is not supported by this machine-type")
        kinds = {"node": self._node, "dist": self._distance, "cpu": self._cpu}
        if options["type"] not in kinds:
            raise NotModelledError(f"numa {options['type']}")
        kinds[options["type"]](options)

    def spread(self) -> None:
        """Give CPUs without a node one, socket by socket, if there are nodes at all."""
        cpus = self._cpus
        if not self.nodes:
            return
        for index in range(cpus.topology.maxcpus):
            if index not in cpus.nodes:
                cpus.nodes[index] = cpus.topology.ids(index)["sockets"] % len(self.nodes)

    def _node(self, options: dict[str, Any]) -> None:
        number = options.get("nodeid", len(self.nodes))
        if number >= _MAX_NODES:
            raise QapiError(f"Max number of NUMA nodes reached: {number}")
        if number in self.nodes:
            raise QapiError(f"Duplicate NUMA nodeid: {number}")
        if "initiator" in options and not self._state.qom.container("/machine").values.get("hmat"):
            raise QapiError(
                "ACPI Heterogeneous Memory Attribute Table (HMAT) is disabled, enable it with"
                " -machine hmat=on before using any of hmat specific options"
            )
        topology = self._cpus.topology
        for index in options.get("cpus", ()):
            if index >= topology.maxcpus:
                raise QapiError(
                    f"CPU index ({index}) should be smaller than maxcpus ({topology.maxcpus})"
                )
            self._assign(index, number)
        self.nodes[number] = self._with_memory(NumaNode(number), options)

    def _with_memory(self, node: NumaNode, options: dict[str, Any]) -> NumaNode:
        mem, memdev = options.get("mem"), options.get("memdev")
        others = self.nodes.values()
        mixed = (mem is not None and (memdev or any(n.memdev for n in others))) or (
            memdev is not None and any(n.mem and not n.memdev for n in others)
        )
        if mixed:
            raise QapiError(
                "numa configuration should use either mem= or memdev=,mixing both is not allowed"
            )
        if mem is not None:
            machine = self._state.type
            assert machine is not None
            if not machine.numa_mem_supported:
                raise QapiError(
                    "Parameter -numa node,mem is not supported by this machine type",
                    "Use -numa node,memdev instead",
                )
            node.mem = mem
        if memdev is not None:
            backend = self._objects.get(memdev.removeprefix("/objects/"))
            if backend is None:
                raise QapiError(f"memdev={memdev} is ambiguous")
            node.mem, node.memdev = backend.get("size"), backend.name
        return node

    def _distance(self, options: dict[str, Any]) -> None:
        source, target, value = options["src"], options["dst"], options["val"]
        for name in ("src", "dst"):
            if options[name] >= _MAX_NODES:
                raise QapiError(
                    f"Parameter '{name}' expects an integer between 0 and {_MAX_NODES - 1}"
                )
        if source not in self.nodes or target not in self.nodes:
            raise QapiError(
                "Source/Destination NUMA node is missing. "
                "Please use '-numa node' option to declare it first."
            )
        if value < _LOCAL_DISTANCE:
            raise QapiError(
                f"NUMA distance ({value}) is invalid, it shouldn't be less than {_LOCAL_DISTANCE}."
            )
        if source == target and value != _LOCAL_DISTANCE:
            raise QapiError(f"Local distance of node {source} should be {_LOCAL_DISTANCE}.")
        self.nodes[source].distances[target] = value

    def _cpu(self, options: dict[str, Any]) -> None:
        if "node-id" not in options:
            raise QapiError("Missing mandatory node-id property")
        number = options["node-id"]
        if number not in self.nodes:
            raise QapiError(
                f"Invalid node-id={number}, NUMA node must be defined with -numa"
                " node,nodeid=ID before it's used with -numa cpu,node-id=ID"
            )
        cpus = self._cpus
        asked = {k: v for k, v in options.items() if k not in ("type", "node-id")}
        known = cpus.props(0)
        for name in asked:
            if name not in known:
                raise QapiError(f"{name} is not supported")
        matches = [
            index
            for index in range(cpus.topology.maxcpus)
            if all(cpus.props(index)[name] == value for name, value in asked.items())
        ]
        if not matches:
            raise QapiError("no match found")
        for index in matches:
            self._assign(index, number)

    def _assign(self, index: int, number: int) -> None:
        nodes = self._cpus.nodes
        if nodes.get(index, number) != number:
            raise QapiError("CPU is already assigned to node-id: " + str(nodes[index]))
        nodes[index] = number
