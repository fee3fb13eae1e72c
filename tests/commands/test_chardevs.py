"""Character devices over QMP: what is checked first, kinds in modules, and the order of lists."""


def added(machine, backend, id="c", **data):
    return machine.error("chardev-add", id=id, backend={"type": backend, "data": data})[1]


def socket(kind, **options):
    where = {"unix": {"path": "x"}, "fd": {"str": "nope"}, "vsock": {"cid": "1", "port": "2"}}[kind]
    return {"addr": {"type": kind, "data": where}, **options}


def test_credentials_are_looked_up_before_options_and_those_before_descriptors(start):
    machine = start("-machine", "none", profile="10.0")
    head = "Failed to add chardev 'c': "
    missing = head + "No TLS credentials with id 'rp0'"
    for kind in ("unix", "vsock", "fd"):
        assert added(machine, "socket", **socket(kind, **{"tls-creds": "rp0"})) == missing
    client = socket("fd", websocket=True, server=False)
    assert added(machine, "socket", **client) == head + "Websocket client is not implemented"
    change = {"id": "n0", "backend": {"type": "socket", "data": socket("fd")}}
    assert machine.error("chardev-change", **change)[1] == "Chardev 'n0' does not exist"


def test_credentials_must_be_for_the_end_of_the_socket(start, tmp_path):
    creds = f"tls-creds-anon,id=creds,endpoint=client,dir={tmp_path}"
    machine = start("-machine", "none", "-object", creds)
    server = socket("vsock", **{"tls-creds": "creds"})
    wrong = "Failed to add chardev 'c': Expected TLS credentials for a server endpoint"
    assert added(machine, "socket", **server) == wrong


def test_a_module_that_was_asked_for_shows_its_kinds(start):
    machine = start("-machine", "none", profile="7.2")

    def kinds():
        return [each["name"] for each in machine.ask("query-chardev-backends")]

    before = kinds()
    assert "braille" not in before
    nobody = "brlapi__openConnection: connect: No such file or directory"
    assert added(machine, "braille").endswith(nobody)
    assert kinds()[kinds().index("braille") + 1] == "socket"
    unsupported = "Failed to add chardev 'c': unsupported type name: x"
    assert added(machine, "spicevmc", type="x") == unsupported
    assert added(machine, "spiceport", fqdn="x") == "Failed to add chardev 'c': spice not enabled"
    assert set(kinds()) - set(before) == {"braille", "spicevmc", "spiceport"}
    machine.ask("qom-list-types", implements="nope")
    assert set(kinds()) - set(before) == {"braille", "spicevmc", "spiceport", "dbus"}
    newest = start("-machine", "none")
    assert added(newest, "spiceport", fqdn="x").endswith("is not a valid char driver name")


def test_devices_are_listed_as_the_table_of_labels_has_them(start):
    """The order beside a real 10.0."""
    machine = start("-machine", "none", profile="10.0")
    for label in ("a", "b", "c"):
        machine.ask("chardev-add", id=label, backend={"type": "null", "data": {}})
    machine.ask("chardev-remove", id="a")
    machine.ask("chardev-add", id="new0", backend={"type": "null", "data": {}})
    assert [each["label"] for each in machine.ask("query-chardev")] == ["c", "b", "new0"]


def test_l2tpv3_is_judged_before_it_is_refused(start):
    machine = start("-machine", "none")

    def refusal(**options):
        given = {"src": "a", "dst": "b", "txsession": 1, **options}
        return machine.error("netdev_add", type="l2tpv3", id="n", **given)[1]

    assert refusal(offset=257) == "offset must be less than 256 bytes"
    assert refusal(rxcookie=1) == "require both 'rxcookie' and 'txcookie' or neither"
    assert refusal(udp=True, srcport="1") == "need both src and dst port for udp"
    assert refusal() == "fakeqemu does not model 'netdev l2tpv3'"
    vdpa = machine.error("netdev_add", type="vhost-vdpa", id="n", vhostfd="x")[1]
    assert vdpa.startswith("vhost-vdpa: unable to parse vhostfd: ")
