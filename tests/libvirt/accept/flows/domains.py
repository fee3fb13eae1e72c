"""Domains of other kinds: transient, minimal, wrong, two at once."""

from __future__ import annotations

import shutil

from accept.domainxml import Domain, minimal
from accept.errors import Failed, Skipped
from accept.lab import Lab
from accept.registry import step


@step("lifecycle.create-transient")
def create_transient(lab: Lab) -> None:
    name = "acc-trans"
    lab.near.gone(name)
    path = lab.file(Domain(name, disk=lab.image(f"{name}.qcow2")).xml(lab.around))
    lab.near.virsh("create", path, timeout=60)
    lab.near.wait_state(name, "running")
    lab.near.virsh("destroy", name)
    if lab.near.state(name) != "absent":
        raise Failed("the transient domain is still there")


@step("lifecycle.minimal-domain")
def minimal_domain(lab: Lab) -> None:
    name = "acc-min"
    lab.near.gone(name)
    lab.near.virsh("create", lab.file(minimal(name, lab.around)), timeout=60)
    lab.near.wait_state(name, "running")
    lab.near.virsh("destroy", name)


@step("lifecycle.tpm")
def tpm(lab: Lab) -> None:
    """libvirt starts an swtpm, and the emulator attaches it."""
    if shutil.which("swtpm_setup") is None:
        raise Skipped("no swtpm_setup here (Debian's swtpm-tools)")
    name = "acc-tpm"
    device = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
    lab.define(Domain(name, disk=lab.image(f"{name}.qcow2"), extra=device))
    lab.near.virsh("start", name, timeout=60)
    lab.near.wait_state(name, "running")
    models = [each["model"] for each in lab.near.qmp(name, "query-tpm")]
    if models != ["tpm-crb"]:
        raise Failed(f"query-tpm shows {models}")
    lab.near.virsh("destroy", name)
    lab.near.gone(name)


def must_not_start(lab: Lab, name: str) -> str:
    outcome = lab.near.ask("start", name, timeout=60)
    if outcome.code == 0:
        lab.near.ask("destroy", name)
        raise Failed("start succeeded")
    return outcome.err


@step("lifecycle.bad-option")
def bad_option(lab: Lab) -> None:
    """An option that the emulator does not know must end it with a message on stderr."""
    name, option = "acc-bad", "-no-such-option-xyz"
    lab.define(Domain(name, disk=lab.image(f"{name}.qcow2"), arguments=(option,)))
    said = must_not_start(lab, name)
    if option.lstrip("-") not in said:
        raise Failed("libvirt did not see the emulator's message: " + said.strip()[-300:])
    lab.near.wait_state(name, "shut off")
    lab.near.gone(name)


@step("lifecycle.missing-disk")
def missing_disk(lab: Lab) -> None:
    name = "acc-bad2"
    lab.define(Domain(name, disk=lab.images / "does-not-exist.qcow2"))
    must_not_start(lab, name)
    lab.near.wait_state(name, "shut off")
    lab.near.gone(name)


@step("lifecycle.two-domains")
def two_domains(lab: Lab) -> None:
    names = ("acc-t1", "acc-t2")
    for name in names:
        lab.running(name)
    if len({lab.near.pid_of(name) for name in names}) != len(names):
        raise Failed("one emulator process for two domains")
    for name in names:
        lab.near.gone(name)
