"""Parts of a board that have something for each CPU: interrupt controllers, timers, connectors.

They were recorded on a board with one CPU and grow with the number of CPUs.

See hw/intc/arm_gic_common.c: gic_init_irqs_and_mmio(); hw/intc/arm_gicv3_common.c:
gicv3_init_irqs_and_mmio(); hw/intc/sifive_plic.c: sifive_plic_realize(); hw/intc/riscv_aclint.c;
hw/riscv/virt.c: virt_create_plic() and virt_create_aia(); hw/intc/riscv_aplic.c:
riscv_aplic_realize(); hw/ppc/spapr_irq.c: spapr_irq_init(); hw/ppc/spapr.c: spapr_init_cpus().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qom.tree import QomObject
from fakeqemu.qapi.errors import NotModelledError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.model.boards.cpus import Topology

#: private interrupts of a CPU, and lines out of a GIC for each
_PRIVATE, _GIC_LINES = 32, 4
#: the same of a newer one, and bytes of registers of a CPU's redistributor by revision; see
#: hw/intc/gicv3_internal.h: gicv3_redist_size()
_GICV3, _GICV3_LINES, _REDISTRIBUTOR = "arm-gicv3", 6, {3: 0x20000, 4: 0x40000}
#: the one CPU that has such interrupts; see hw/arm/virt.c: gicv3_nmi_present();
#: target/arm/tcg/cpu64.c: aarch64_max_tcg_initfn()
_WITH_NMI = "max-arm-cpu"
#: redistributors that have room in the first region; see hw/arm/virt.c: base_memmap
_FIRST_REDISTRIBUTORS = 123
_LINE_OUT = "unnamed-gpio-out[{}]"
#: controllers of which each socket of a RISC-V board has one; see hw/riscv/virt.c:
#: virt_machine_init()
OF_SOCKETS = frozenset({"riscv.sifive.plic", "riscv.aclint.mtimer", "riscv.aclint.swi"})
#: of which each hart has one of either mode, and what passes interrupts on to them
OF_HARTS, _APLIC = "riscv.imsic", "riscv.aplic"
#: see include/hw/ppc/xive.h: XIVE_PRIORITY_MAX
_PRIORITIES = 8
#: the connector of the first core; see hw/ppc/spapr_drc.h: SPAPR_DR_CONNECTOR_TYPE_SHIFT
_CPU_CONNECTOR = 1 << 28


def grow(machine: QomObject, topology: Topology, sockets: int, cpu: str) -> None:
    """Have the board's parts be those of a machine with so many CPUs of type `cpu`.

    `sockets`: how many have controllers of their own, for an equal share of the CPUs each.
    """
    cpus, most = topology.cpus, topology.maxcpus
    for obj in (*machine.children.values(), *machine.children["unattached"].children.values()):
        rule = _RULES.get(obj.type)
        if rule is not None:
            rule(obj, cpus // sockets if obj.type in OF_SOCKETS else cpus)
            if obj.type == _GICV3 and machine.type.startswith("virt-"):
                obj.values["has-nmi"] = cpu == _WITH_NMI
        elif obj.type == "spapr-xive":
            obj.values["nr-ends"] = _PRIORITIES * most
    _grow_connectors(machine, most, topology.levels["threads"])


def _grow_connectors(machine: QomObject, most: int, threads: int) -> None:
    model = machine.children.get(f"dr-connector[{_CPU_CONNECTOR}]")
    if model is not None:
        for core in range(threads, most, threads):
            _add_connector(machine, model, _CPU_CONNECTOR + core)


def wiring(device: DeviceObject, recorded: list[str]) -> list[str]:
    """Lines of `info qtree` with a device's interrupt lines; `recorded`: those of one CPU."""
    values: dict[str, Any] = device.values
    if device.type == "arm_gic":
        cpus = values["num-cpu"]
        inputs = values["num-irq"] + _PRIVATE * (cpus - 1)
        return [f'gpio-out "sysbus-irq" {_GIC_LINES * cpus}', f'gpio-in "" {inputs}']
    if device.type == _GICV3:
        cpus = values["num-cpu"]
        inputs = values["num-irq"] + _PRIVATE * (cpus - 1)
        return [f'gpio-out "sysbus-irq" {_GICV3_LINES * cpus}', f'gpio-in "" {inputs}']
    if device.type == "riscv.sifive.plic":
        harts = len(values["hart-config"].split(","))
        return [f'gpio-in "" {values["num-sources"]}', f'gpio-out "" {2 * harts}']
    if device.type in OF_SOCKETS:
        return [f'gpio-out "" {values["num-harts"]}']
    if device.type == _APLIC:
        # the lines of devices lead to the one of machine mode, and to harts those without messages
        lines = [f'gpio-in "" {values["num-irqs"]}'] if values["mmode"] else []
        return lines if values["msimode"] else [*lines, f'gpio-out "" {values["num-harts"]}']
    return recorded


def memory(device: DeviceObject, recorded: list[list[str]], number: int) -> list[str]:
    """Lines of `info qtree` with a device's memory: the one of its type that has that number.

    `recorded`: those of each that was recorded. Raises NotModelledError.
    """
    if device.type == OF_HARTS:
        (region,) = (each for each in device.children.values() if each.type == "memory-region")
        return [f"mmio {region.values['addr']:016x}/{region.values['size']:016x}"]
    if device.type == _GICV3:
        # one of the distributor, and one of each region of redistributors
        first, *others = recorded[number]
        size = _REDISTRIBUTOR[device.values["revision"]]
        sizes = [each * size for each in device.values["redist-region-count"]]
        if len(sizes) > len(others):
            raise NotModelledError(f"info qtree with {len(sizes)} regions of an {_GICV3}")
        places = (each.partition("/")[0] for each in others)
        return [first, *(f"{at}/{size:016x}" for at, size in zip(places, sizes, strict=True))]
    if number >= len(recorded):
        raise NotModelledError(f"info qtree with {number + 1} {device.type}")
    return _of_gic(device, recorded[number])


def _of_gic(device: DeviceObject, recorded: list[str]) -> list[str]:
    if device.type != "arm_gic" or device.values["num-cpu"] == 1:
        return recorded
    if device.values.get("has-virtualization-extensions"):
        raise NotModelledError("info qtree with an arm_gic of several CPUs that has EL2")
    return [*recorded[:2], *recorded[2:3] * device.values["num-cpu"]]


def _grow_gic(obj: QomObject, cpus: int) -> None:
    obj.values["num-cpu"] = cpus
    for number in range(1, cpus):
        _like_child(obj, "gic_cpu[1]", f"gic_cpu[{number + 1}]")
    _grow_inputs(obj, cpus)


def _grow_gicv3(obj: QomObject, cpus: int) -> None:
    obj.values["num-cpu"] = cpus
    regions = [min(cpus, _FIRST_REDISTRIBUTORS), cpus - _FIRST_REDISTRIBUTORS]
    obj.values["redist-region-count"] = [number for number in regions if number > 0]
    _grow_inputs(obj, cpus)


def _grow_inputs(obj: QomObject, cpus: int) -> None:
    first = int(obj.values["num-irq"])
    for number in range(first, first + _PRIVATE * (cpus - 1)):
        _like_child(obj, "unnamed-gpio-in[0]", f"unnamed-gpio-in[{number}]")


def _grow_plic(obj: QomObject, harts: int) -> None:
    one = obj.values["hart-config"].split(",")[0]
    obj.values["hart-config"] = ",".join([one] * harts)
    # one for each hart and mode
    first = _LINE_OUT.format(0)
    targets = [obj.values[_LINE_OUT.format(mode)] for mode in range(len(one))]
    for number in range(len(one) * harts):
        mode, hart = divmod(number, harts)
        name = _LINE_OUT.format(number)
        obj.own_shapes()[name] = obj.shapes[first]
        obj.values[name] = _of_hart(obj, targets[mode], hart)


def _grow_aclint(obj: QomObject, harts: int) -> None:
    obj.values["num-harts"] = harts
    first = _LINE_OUT.format(0)
    if first not in obj.shapes:
        return
    target = obj.values[first]
    for number in range(harts):
        name = _LINE_OUT.format(number)
        obj.own_shapes()[name] = obj.shapes[first]
        obj.values[name] = _of_hart(obj, target, number)


def _grow_aplic(obj: QomObject, harts: int) -> None:
    if not obj.values["msimode"]:
        _grow_aclint(obj, harts)


def be_of_hart(imsic: QomObject, hart: int) -> None:
    """Make a recorded controller, which is that of the first hart, another hart's."""
    imsic.values["hartid"] = hart
    for name, value in imsic.values.items():
        if name.startswith("unnamed-gpio-out"):
            imsic.values[name] = value.replace("harts[0]", f"harts[{hart}]")
    for region in imsic.children.values():
        region.values["addr"] += hart * region.values["size"]


def _of_hart(controller: QomObject, path: str, hart: int) -> str:
    """The same line of another hart of the controller's socket."""
    values: dict[str, Any] = controller.values
    harts = values.get("num-harts") or len(values["hart-config"].split(","))
    socket = values["hartid-base"] // harts
    return path.replace("soc0/harts[0]", f"soc{socket}/harts[{hart}]")


def _like_child(obj: QomObject, model: str, name: str) -> None:
    like = obj.children.get(model)
    if like is None or name in obj.children:
        return
    child = QomObject(like.type)
    child.own_shapes().update(like.shapes)
    child.values.update(like.values)
    obj.add_child(name, child)


def _add_connector(machine: QomObject, model: QomObject, index: int) -> None:
    name = f"dr-connector[{index}]"
    _like_child(machine, model.name, name)
    child = machine.children[name]
    child.values.update(index=index, id=index - _CPU_CONNECTOR)
    # what is in the slot it names once it is made
    child.own_shapes().pop("device", None)
    child.values.pop("device", None)


_RULES: dict[str, Callable[[QomObject, int], None]] = {
    "arm_gic": _grow_gic,
    _GICV3: _grow_gicv3,
    "riscv.sifive.plic": _grow_plic,
    _APLIC: _grow_aplic,
    "riscv.aclint.mtimer": _grow_aclint,
    "riscv.aclint.swi": _grow_aclint,
}
