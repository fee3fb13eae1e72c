"""Parameters of a migration, set and asked through libvirt."""

from __future__ import annotations

import re

from accept.errors import Failed
from accept.lab import Lab
from accept.registry import step

NAME = "acc-par"


@step("migparams.setmaxdowntime")
def setmaxdowntime(lab: Lab) -> None:
    lab.running(NAME)
    lab.near.virsh("migrate-setmaxdowntime", NAME, "500")
    said = lab.near.virsh("migrate-getmaxdowntime", NAME).strip()
    if not said.startswith("500"):
        raise Failed("getmaxdowntime: " + said)


@step("migparams.setspeed")
def setspeed(lab: Lab) -> None:
    lab.running(NAME)
    lab.near.virsh("migrate-setspeed", NAME, "50")
    said = lab.near.virsh("migrate-getspeed", NAME).strip()
    if said != "50":
        raise Failed("getspeed: " + said)


@step("migparams.postcopy-speed")
def postcopy_speed(lab: Lab) -> None:
    lab.running(NAME)
    lab.near.virsh("migrate-setspeed", NAME, "60", "--postcopy")
    said = lab.near.virsh("migrate-getspeed", NAME, "--postcopy").strip()
    if said != "60":
        raise Failed("getspeed --postcopy: " + said)


@step("migparams.compcache")
def compcache(lab: Lab) -> None:
    lab.running(NAME)
    lab.near.virsh("migrate-compcache", NAME, "--size", 64 << 20)
    said = lab.near.virsh("migrate-compcache", NAME)
    if "64" not in said:
        raise Failed(said)


@step("migparams.domjobinfo")
def domjobinfo(lab: Lab) -> None:
    lab.running(NAME)
    said = lab.near.virsh("domjobinfo", NAME)
    if not re.search(r"Job type:\s+None", said):
        raise Failed(said)


@step("migparams.cleanup")
def cleanup(lab: Lab) -> None:
    lab.near.gone(NAME)
