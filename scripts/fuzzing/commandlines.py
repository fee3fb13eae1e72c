"""Random command lines: options of the version with arguments that fit, or just not."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

from fakeqemu.profile import Profile
from fuzzing.campaign import Campaign, Step, smaller_values
from fuzzing.configs import CONFIGS, FILES
from fuzzing.findings import HOLD, Finding, stderr_text
from fuzzing.machine import DEADLINE, Machine
from fuzzing.pools import POOL

_LINES = 8
#: what would leave the process group, run programs, or write outside the directory
_LEFT_OUT = frozenset(
    {"daemonize", "chroot", "runas", "run-with", "sandbox", "writeconfig", "readconfig", "plugin",
     "D", "monitor", "serial", "mon", "spice", "display", "nographic", "curses", "sdl"}
)  # fmt: skip
_VALUES: dict[str, list[str]] = {
    "machine": ["q35", "pc", "none", "microvm", "nope", "q35,accel=tcg", "pc,usb=on", "type="],
    "m": ["64", "1G", "0", "-1", "64,slots=2,maxmem=1G", "9999999T", "size=,", "1.5"],
    "smp": ["2", "0", "1,maxcpus=4", "cores=2,threads=2,sockets=1", "x", "999999", "cpus=2,dies=9"],
    "cpu": ["qemu64", "max", "nope", "qemu64,+foo", "qemu64,avx=on", "host", "help", "qemu64,=,"],
    "device": ["virtio-rng-pci", "nope", "virtio-blk-pci,drive=n0", "e1000,netdev=net0,mac=x",
               "{", '{"driver":"virtio-rng-pci"}', "help", "virtio-rng-pci,help", "pc-dimm,=1"],
    "blockdev": ["null-co,node-name=n9", "{", "driver=qcow2,file.filename=d1.raw", "file", ",,",
                 "driver=raw,file.driver=file,file.filename=nope,node-name=z"],
    "drive": ["file=d1.raw,format=raw,if=none,id=d1", "if=ide", "file=nope", "id=1,if=none", "x=y"],
    "netdev": ["user,id=n1", "tap,id=t1", "nope,id=x", "user", "hubport,id=h,hubid=-1", "help"],
    "object": ["iothread,id=i9", "memory-backend-ram,id=m9,size=1M", "secret,id=s", "nope,id=x",
               '{"qom-type":"iothread"}', "iothread", "rng-random,id=r,filename=/dev/null"],
    "chardev": ["null,id=c9", "socket,id=s9,path=c.sock,server=on,wait=off", "nope,id=x", "null",
                "ringbuf,id=r9,size=3", "file,id=f9,path=out", "pty,id=p9", "udp,id=u9,port=x"],
    "incoming": ["defer", "nope:x", "tcp:", "unix:m.sock", "fd:77", "file:nope", "tcp:x:99999"],
    "gdb": ["none", "unix:g.sock,server=on,wait=off", "nope", "", "chardev:ch0", "tcp:127.0.0.1:0"],
    "vnc": ["none", ":99999", "unix:v.sock", "nope", ":1,to=x", "127.0.0.1:9,websocket=x"],
    "global": ["virtio-net-pci.mac=x", "nope", "a.b=c", "migration.x-multifd-channels=0", "=.=,"],
    "numa": ["node", "node,nodeid=99", "cpu,node-id=0", "dist,src=0,dst=0,val=1", "x", "node,mem"],
    "accel": ["tcg", "kvm", "nope", "tcg,thread=multi", "qtest", "help"],
    "append": ["x"], "name": ["a,process=b", "guest=", "debug-threads=on", ",", "a" * 300],
    "uuid": ["nope", "12345678-1234-1234-1234-123456789012", ""],
    "boot": ["c", "order=z", "menu=maybe", "once=d,strict=on", "splash=nope"],
    "rtc": ["base=utc", "base=x", "clock=vm,driftfix=slew", "clock=x"],
    "pidfile": ["p.pid", "nope/p.pid", ""],
    "add-fd": ["fd=0,set=1", "fd=99,set=1", "fd=x", "set=1"],
    "fw_cfg": ["name=opt/x,string=y", "name=x", "name=opt/f,file=d1.raw", ","],
}  # fmt: skip


class CommandLines(Campaign):
    """Each step is a command line; a machine that starts is ended by SIGTERM."""

    name = "commandline"

    def session(self, rng: random.Random) -> list[Step]:
        """Command lines, independent of each other."""
        options = [
            (name, takes) for name, takes, *_ in Profile.load(self.profile).part("options")
            if name not in _LEFT_OUT
        ]  # fmt: skip
        return [_words(rng, options) for _ in range(_LINES)]

    def play(self, steps: Sequence[Step]) -> Finding | None:
        """Until one of the lines leads to a finding."""
        for self.reached, step in enumerate(steps):
            if (found := self._one(step)) is not None:
                return found
        return None

    def _one(self, words: list[str]) -> Finding | None:
        with Machine(self.profile, words, files=FILES, qmp=1) as machine:
            end = time.monotonic() + DEADLINE
            socket = machine.directory / "q0.sock"
            while machine.alive and not socket.exists() and time.monotonic() < end:
                time.sleep(0.005)
            if machine.alive:
                if (taken := machine.cpu()) > 2 * HOLD:
                    return Finding("hold", "start", f"{taken:.1f} s of processor time")
                machine.process.send_signal(signal.SIGTERM)
            try:
                status = machine.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                return Finding("no-answer", "SIGTERM", machine.stderr[-1000:])
            if (found := stderr_text(machine)) is not None:
                return found
            if status < 0 and status != -signal.SIGTERM:
                return Finding("death", f"start: exit status {status}", machine.stderr[-1000:])
            return None

    def simpler(self, step: Step) -> Iterator[Step]:
        """The line without a word, or with a shorter one."""
        yield from smaller_values(step)


def _words(rng: random.Random, options: Sequence[Any]) -> list[str]:
    words = list(rng.choice([(), ("-nodefaults",), CONFIGS["none"], CONFIGS["q35"]]))
    words += ["-display", "none"]
    for _ in range(rng.randrange(1, 5)):
        known = rng.random() < 0.7
        name, takes = rng.choice(
            [each for each in options if each[0] in _VALUES] if known else list(options)
        )
        words.append(f"-{name}")
        if not takes:
            continue
        values = _VALUES.get(name) or POOL[rng.choice(sorted(POOL))]
        value = rng.choice(values)
        if rng.random() < 0.15:
            value += rng.choice([",", "=", ",id=x", ",,", ",foo=bar", "\u00e9", " ", "=on"])
        words.append(value.replace("\0", "0"))
    return words
