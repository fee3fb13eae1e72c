"""accept - does a real libvirt take this emulator?

Prints `ok STEP`, `FAIL STEP: reason` or `skip STEP: reason` for each step and exits with 0 if
none failed. Needs libvirtd and virsh; and root, unshare and mount unless `--privacy session`.
No guest operating system is booted.
"""

from __future__ import annotations

import os
import sys

from accept.options import parse
from accept.registry import all_steps
from accept.runner import run_all


def main(argv: list[str]) -> int:
    options = parse(argv, __doc__ or "")
    if options.list_steps:
        for each in all_steps():
            print(f"{each.name:40} {each.flow}")
        return 0
    if options.privacy == "namespace" and os.geteuid() != 0:
        sys.exit("accept: private mount namespaces are for root; try --privacy session")
    return run_all(options)
