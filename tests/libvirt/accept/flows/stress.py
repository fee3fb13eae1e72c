"""Many questions at once, many starts in a row."""

from __future__ import annotations

from accept.errors import Failed
from accept.lab import Lab
from accept.registry import step

NAME = "acc-stress"


@step("stress.parallel-queries")
def parallel_queries(lab: Lab) -> None:
    """Eight clients at once on one monitor."""
    lab.running(NAME)
    commands = [
        ("domstats", NAME),
        ("dommemstat", NAME),
        ("domblkstat", NAME, "vda"),
        ("dominfo", NAME),
        ("qemu-monitor-command", "--hmp", NAME, "info status"),
        ("domstats", NAME),
        ("qemu-monitor-command", NAME, '{"execute":"query-block"}'),
        ("iothreadinfo", NAME),
    ]
    for child in [lab.near.background(*command) for command in commands]:
        if lab.near.wait_for(child, 30):
            raise Failed(f"{child.argv[4]}: {child.errors().strip()[-200:]}")
    state = lab.near.state(NAME)
    if not state.startswith("running"):
        raise Failed(state)


@step("stress.suspend-resume-20")
def suspend_resume_20(lab: Lab) -> None:
    lab.running(NAME)
    for _ in range(20):
        lab.near.virsh("suspend", NAME)
        lab.near.virsh("resume", NAME)
    lab.near.wait_state(NAME, "running", 5)


@step("stress.start-destroy-5")
def start_destroy_5(lab: Lab) -> None:
    lab.running(NAME)
    for _ in range(5):
        lab.near.virsh("destroy", NAME)
        lab.near.virsh("start", NAME, timeout=60)
    lab.near.gone(NAME)
