"""NUMA nodes as -numa and set-numa-node describe them.

See hw/core/numa.c: set_numa_options(), parse_numa_node() and numa_complete_configuration();
hw/core/machine.c: machine_set_cpu_numa_node() and machine_numa_finish_cpu_init().
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.model.boards.hmat import Hmat
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.qom.user_creatable import Objects

_MAX_NODES = 128
_LOCAL_DISTANCE = 10

#: machine types with a node for memory that may be plugged: since which version slots alone make
#: one; see their auto_enable_numa_with_memhp and auto_enable_numa_with_memdev
_AUTOMATIC = {"generic-pc-machine": (2, 10), "virt-machine": (4, 1)}
#: one that always has a node; see hw/ppc/spapr.c: spapr_machine_class_init()
_ALWAYS = "spapr-machine"

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
    #: the node whose CPUs are nearest to it; None if not given
    initiator: int | None = None


class Numa:
    """The nodes of one machine."""

    def __init__(self, state: MachineState, cpus: Cpus, objects: Objects) -> None:
        self._state = state
        self._cpus = cpus
        self._objects = objects
        self.nodes: dict[int, NumaNode] = {}

    @property
    def has_memdevs(self) -> bool:
        """Whether nodes are backends of their own, which together are the machine's memory."""
        return any(node.memdev for node in self.nodes.values())

    def set_node(self, options: dict[str, Any]) -> None:
        """What -numa and set-numa-node do with checked NumaOptions. Raises QapiError."""
        machine = self._state.type
        if machine is None or machine.default_cpu_type is None:
            raise QapiError("NUMA is not supported by this machine-type")
        kinds = {
            "node": self._node, "dist": self._distance, "cpu": self._cpu,
            "hmat-lb": self._hmat_lb, "hmat-cache": self._hmat_cache,
        }  # fmt: skip
        kinds[options["type"]](options)

    def complete(self, warn: Callable[[str], None]) -> None:
        """Check the nodes as a whole and give each CPU without one its own. Raises QapiError.

        `warn`: prints a warning on standard error.
        """
        if not self.nodes and self._is_automatic():
            self.set_node({"type": "node"})
            self.nodes[0].mem = self._state.memory.size
        if not self.nodes:
            return
        # the largest first, to make mistakes easier to spot
        for number in range(max(self.nodes), -1, -1):
            if number not in self.nodes:
                raise QapiError(f"numa: Node ID missing: {number}")
        total, size = sum(node.mem for node in self.nodes.values()), self._state.memory.size
        if total != size:
            raise QapiError(
                f"total memory for NUMA nodes ({total:#x}) should equal RAM size ({size:#x})"
            )
        if self.has_memdevs and self._machine_values().get("memory-backend"):
            raise QapiError(
                "'-machine memory-backend' and '-numa memdev' properties are mutually exclusive"
            )
        self._complete_distances()
        self._spread(warn)

    def _is_automatic(self) -> bool:
        """Whether there is a node without -numa.

        See hw/core/numa.c: numa_complete_configuration().
        """
        machine, memory = self._state.type, self._state.memory
        kind = next((kind for kind in _AUTOMATIC if self._state.is_a(kind)), None)
        if self._state.is_a(_ALWAYS):
            return True
        if machine is None or kind is None:
            return False
        # machine types up to 5.0 are those that take memory of nodes by size
        by_room = memory.maxmem > memory.size and not machine.numa_mem_supported
        version, since = machine.version, _AUTOMATIC[kind]
        return by_room or (bool(memory.slots) and (version is None or version > since))

    def _complete_distances(self) -> None:
        nodes = [self.nodes[number] for number in sorted(self.nodes)]
        if not any(node.distances for node in nodes):
            return
        pairs = [(a, b) for a in nodes for b in nodes if a.id < b.id]
        for a, b in pairs:
            if b.id not in a.distances and a.id not in b.distances:
                raise QapiError(
                    f"The distance between node {a.id} and {b.id} is missing, at least one "
                    "distance value between each nodes should be provided."
                )
        both = [(a.distances.get(b.id), b.distances.get(a.id)) for a, b in pairs]
        asymmetrical = any(None not in pair and pair[0] != pair[1] for pair in both)
        if asymmetrical and any(None in pair for pair in both):
            raise QapiError(
                "At least one asymmetrical pair of distances is given, please provide "
                "distances for both directions of all node pairs."
            )
        for a in nodes:
            a.distances.setdefault(a.id, _LOCAL_DISTANCE)
        for a, b in pairs:
            a.distances.setdefault(b.id, b.distances.get(a.id, 0))
            b.distances.setdefault(a.id, a.distances[b.id])

    def _spread(self, warn: Callable[[str], None]) -> None:
        """Socket by socket, or all into node 0 where some CPUs were given one."""
        cpus = self._cpus
        per_slot = cpus.per_slot
        indices = range(cpus.topology.maxcpus)
        left = [index for index in indices if index not in cpus.nodes]
        partial = len(left) < len(indices)
        slots = []
        for index in left:
            if not index % per_slot:
                props = cpus.props(index, with_node=False)
                ids = ", ".join(f"{name}: {value}" for name, value in props.items())
                slots.append(f"CPU {index // per_slot} [{ids}]")
            socket = cpus.topology.ids(index)["sockets"]
            self._assign(index, 0 if partial else socket % len(self.nodes))
        if self._hmat_enabled:
            self._check_initiators()
        if partial and left and self._state.accelerator != "qtest":
            warn(f"CPU(s) not present in any NUMA nodes: {', '.join(slots)}")
            warn(
                "All CPU(s) up to maxcpus should be described in NUMA config, ability "
                "to start up with partial NUMA mappings is obsoleted and will be removed in "
                "future"
            )

    def _check_initiators(self) -> None:
        with_cpus = set(self._cpus.nodes.values())
        for number in sorted(self.nodes):
            initiator = self.nodes[number].initiator
            if initiator is None:
                continue
            if initiator not in self.nodes:
                raise QapiError(
                    f"NUMA node {initiator} is missing, use '-numa node' option to declare it "
                    "first"
                )
            if initiator not in with_cpus:
                raise QapiError(f"The initiator of NUMA node {number} is invalid")

    def _machine_values(self) -> dict[str, Any]:
        return self._state.qom.container("/machine").values

    @cached_property
    def _hmat(self) -> Hmat:
        from fakeqemu.model.boards.hmat import Hmat

        return Hmat()

    @property
    def _hmat_enabled(self) -> bool:
        return bool(self._machine_values().get("hmat"))

    def _need_hmat(self) -> None:
        if not self._hmat_enabled:
            raise QapiError(
                "ACPI Heterogeneous Memory Attribute Table (HMAT) is disabled, enable it with"
                " -machine hmat=on before using any of hmat specific options"
            )

    def _hmat_lb(self, options: dict[str, Any]) -> None:
        self._need_hmat()
        self._hmat.set_lb(options, self.nodes, set(self._cpus.nodes.values()))

    def _hmat_cache(self, options: dict[str, Any]) -> None:
        self._need_hmat()
        self._hmat.set_cache(options, self.nodes)

    def _node(self, options: dict[str, Any]) -> None:
        number = options.get("nodeid", len(self.nodes))
        if number >= _MAX_NODES:
            raise QapiError(f"Max number of NUMA nodes reached: {number}")
        if number in self.nodes:
            raise QapiError(f"Duplicate NUMA nodeid: {number}")
        initiator = options.get("initiator")
        if initiator is not None:
            self._need_hmat()
            if initiator >= _MAX_NODES:
                raise QapiError(
                    f"The initiator id {initiator} expects an integer between 0 and"
                    f" {_MAX_NODES - 1}"
                )
        topology = self._cpus.topology
        for index in options.get("cpus", ()):
            if index >= topology.maxcpus:
                raise QapiError(
                    f"CPU index ({index}) should be smaller than maxcpus ({topology.maxcpus})"
                )
            self._assign(index, number, initiator)
        node = self._with_memory(NumaNode(number), options)
        # a node with CPUs is its own
        node.initiator = number if options.get("cpus") else initiator
        self.nodes[number] = node

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

    def _assign(self, index: int, number: int, initiator: int | None = None) -> None:
        nodes = self._cpus.nodes
        if nodes.get(index, number) != number:
            raise QapiError("CPU is already assigned to node-id: " + str(nodes[index]))
        nodes[index] = number
        if not self._hmat_enabled:
            return
        node = self.nodes.get(number)
        if node is not None:
            initiator = node.initiator
        if initiator is not None and initiator != number:
            raise QapiError(
                f"The initiator of CPU NUMA node {number} should be itself (got {initiator})"
            )
        if node is not None:
            node.initiator = number
