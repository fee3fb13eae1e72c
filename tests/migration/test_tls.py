"""TLS as far as it shows: which credentials are refused, and one side without it."""

from __future__ import annotations

import pytest

from tests.support.migration import FakeStream


def credentials(vm, id: str, **options) -> None:
    vm.machine.objects.add({"qom-type": "tls-creds-anon", "id": id, **options})


def test_credentials_that_are_none(make, clock):
    vm = make()
    vm.machine.objects.add({"qom-type": "iothread", "id": "io"})
    credentials(vm, "server", endpoint="server")
    for name, text in (
        ("nosuch", "No TLS credentials with id 'nosuch'"),
        ("io", "Object with id 'io' is not TLS credentials"),
        ("server", "Expected TLS credentials for a client endpoint"),
    ):
        vm.set(tls_creds=name)
        vm.command("migrate", uri="unix:/m")
        clock.run_until_idle()
        assert vm.command("query-migrate") == {"status": "failed", "error-desc": text}


@pytest.mark.parametrize("both", [True, False])
def test_both_sides_need_it(make, clock, both):
    dst = make(inmigrate=True)
    credentials(dst, "t", endpoint="server")
    if both:
        dst.set(tls_creds="t")
    dst.command("migrate-incoming", uri="unix:/m")
    src = make()
    credentials(src, "t", endpoint="client")
    src.set(tls_creds="t")
    src.command("migrate", uri="unix:/m")
    clock.run_until_idle()
    assert dst.status == ("completed" if both else "failed")
    assert dst.machine.process.exit_code == (None if both else 1)


def test_a_client_that_shakes_no_hands_keeps_nobody_out(make, clock):
    dst = make("10.0", inmigrate=True)
    credentials(dst, "t", endpoint="server")
    dst.set(tls_creds="t")
    dst.command("migrate-incoming", uri="unix:/m")
    silent = FakeStream(clock)
    dst.host.world["/m"](silent)
    src = make("10.0")
    credentials(src, "t", endpoint="client")
    src.set(tls_creds="t")
    src.command("migrate", uri="unix:/m")
    clock.run_until_idle()
    assert (src.status, dst.status) == ("completed", "completed")
    # QEMU would begin a second migration with it, in a machine that runs
    assert silent.closed
