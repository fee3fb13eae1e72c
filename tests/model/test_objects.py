import pytest


def add(machine, type, id, **options):
    return machine.ask("object-add", qom_type=type, id=id, **options)


def test_memory_backend_shows_what_it_was_made_with(start):
    machine = start("-machine", "none")
    add(machine, "memory-backend-ram", "m", size=4096, share=True)
    (entry,) = machine.ask("query-memdev")
    assert (entry["id"], entry["size"], entry["share"], entry["merge"]) == ("m", 4096, True, True)
    assert "cannot change property size" in machine.error(
        "qom-set", path="/objects/m", property="size", value=1
    )[1]


@pytest.mark.parametrize(
    ("type", "options", "text"),
    [
        ("memory-backend-ram", {"size": 0}, "doesn't take value '0'"),
        ("memory-backend-ram", {"size": 1, "policy": "bind"}, "host-nodes must be set"),
        ("iothread", {"poll-max-ns": -1}, "must be in range"),
        ("iothread", {"poll-weight": 64}, "poll-weight value must be in range [0, 63]"),
        ("iothread", {"thread-pool-max": 0}, "bad thread-pool-min/thread-pool-max values"),
        ("secret", {}, "Either 'file' or 'data' must be provided"),
        ("secret", {"data": "%", "format": "base64"}, "invalid characters"),
        ("throttle-group", {"limits": {"iops-size": 1}}, "iops size requires"),
        ("filter-buffer", {"netdev": "x", "interval": 1}, "expects a network backend id"),
        ("rng-egd", {"chardev": "x"}, "Device 'x' not found"),
        ("rng-egd", {"chardev": "x", "opened": True}, "Property 'rng-egd.opened' is not writable"),
        ("iothread", {"thread-pool-max": 1 << 31}, "bad thread-pool-min/thread-pool-max values"),
        ("cryptodev-backend-builtin", {"queues": 0}, "queues' doesn't take value '0'"),
        ("thread-context", {"cpu-affinity": []}, "CPU list is empty"),
        ("thread-context", {"cpu-affinity": [9999]}, "Setting CPU affinity failed: Invalid"),
        ("thread-context", {"node-affinity": [9999]}, "The nodes select no CPUs"),
        (
            "thread-context", {"cpu-affinity": [0], "node-affinity": [0]},
            "Mixing CPU and node affinity not supported",
        ),
        (
            "memory-backend-ram", {"size": 1 << 60},
            "cannot set up guest memory 'o': Cannot allocate memory",
        ),
        ("memory-backend-ram", {"size": (1 << 64) - 1}, "Cannot allocate memory"),
        (
            "memory-backend-memfd", {"size": 1 << 60},
            "unable to map backing store for guest RAM: Cannot allocate memory",
        ),
        ("memory-backend-memfd", {"size": 1 << 63}, f"resize memfd to {1 << 63}: Invalid"),
        ("memory-backend-memfd", {"size": 1}, "o backing store size 0x1 is too small for"),
        (
            "memory-backend-file", {"size": 1, "mem-path": "f"},
            "backend 'memory-backend-file' memory size must be multiple of 4 KiB",
        ),
        (
            "memory-backend-file", {"size": (1 << 64) - 1, "mem-path": "f"},
            "memory size 0x0 must be equal to or larger than page size 0x1000",
        ),
    ],
)
def test_refused_object_is_not_there(start, type, options, text):
    machine = start("-machine", "none")
    given = {k.replace("-", "_"): v for k, v in options.items()}
    members = {"qom_type": type, "id": "o", **given}
    assert text in machine.error("object-add", **members)[1]
    assert machine.error("object-del", id="o")[1] == "object 'o' not found"


def test_throttle_limits_in_both_notations(start):
    machine = start("-machine", "none")
    add(machine, "throttle-group", "g", **{"x-iops-total": 50})
    limits = machine.ask("qom-get", path="/objects/g", property="limits")
    assert (limits["iops-total"], limits["iops-total-max-length"]) == (50, 1)
    machine.ask("qom-set", path="/objects/g", property="limits", value={"bps-read": 9})
    assert machine.ask("qom-get", path="/objects/g", property="x-bps-read") == 9


def test_memory_of_the_guest_stays(start):
    for profile, text in (("10.0", "is in use"), ("11.1", "which is mapped")):
        machine = start("-machine", "q35", profile=profile)
        assert text in machine.error("object-del", id="pc.ram")[1]


def test_filter_goes_with_its_netdev(start):
    machine = start("-machine", "none")
    machine.ask("netdev_add", type="hubport", id="h", hubid=0)
    add(machine, "filter-buffer", "f", netdev="h", interval=1)
    machine.ask("netdev_del", id="h")
    assert machine.error("object-del", id="f")[1] == "object 'f' not found"


def test_monitors_are_objects_where_the_type_exists(start):
    for profile, shown in (("10.0", False), ("11.1", True)):
        machine = start("-machine", "none", "-chardev", "null,id=c", "-mon", "c", profile=profile)
        names = [entry["name"] for entry in machine.ask("qom-list", path="/objects")]
        assert ("compat_monitor0" in names) is shown


def test_memory_in_huge_pages_must_fill_them(start):
    machine = start("-machine", "none")
    refused = machine.error(
        "object-add", qom_type="memory-backend-memfd", id="m", size=1 << 20, hugetlb=True
    )
    assert refused[1] == "failed to resize memfd to 1048576: Invalid argument"


def test_shared_memory_backend_is_shared_unasked(start):
    machine = start("-machine", "none")
    add(machine, "memory-backend-shm", "m", size=4096)
    assert machine.ask("query-memdev")[0]["share"] is True


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ("10.0", "object 'm' is in use, can not be deleted"),
        ("11.1", "Deleting main loop 'm' is not supported"),
    ],
)
def test_the_main_loop_stays(start, profile, text):
    machine = start("-machine", "none", profile=profile)
    add(machine, "main-loop", "m")
    assert machine.error("object-del", id="m")[1] == text
