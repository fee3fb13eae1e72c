"""key=value strings: syntax, lists, typed values, sizes."""

from __future__ import annotations

import pytest

from fakeqemu.profile import Profile
from fakeqemu.qapi import qdict
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.keyval import check_keyval, merge, parse_keyval, parse_keyval_help
from fakeqemu.traits import Traits


def test_members_that_are_read_into_an_object_keep_the_order_in_which_they_are_written():
    """`smm` and `smp` are in one place of QEMU's table, where the last put comes first."""
    for text, first in (("smm=x,smp.cpus=2", "smp"), ("smp.cpus=2,smm=x", "smm")):
        read: dict[str, object] = {"type": "q35"}
        merge(read, parse_keyval(text), parsed=True)
        assert qdict.items(read)[0][0] == first
        merged: dict[str, object] = {"type": "q35"}
        merge(merged, parse_keyval(text))
        assert qdict.items(merged)[0][0] != first


def test_syntax():
    assert parse_keyval("") == {}
    assert parse_keyval("a=1,b.c=2,b.d=,a=3,") == {"a": "3", "b": {"c": "2", "d": ""}}
    assert parse_keyval("a=x,,y,b=,,") == {"a": "x,y", "b": ","}
    assert parse_keyval("l.1=b,l.0.k=a") == {"l": [{"k": "a"}, "b"]}
    assert parse_keyval("null-co,size=1", "driver") == {"driver": "null-co", "size": "1"}
    assert parse_keyval("__com.example_x-y=1") == {"__com.example_x-y": "1"}
    assert parse_keyval_help("driver=x,help,a=1") == ({"driver": "x", "a": "1"}, True)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("foo", "Expected '=' after parameter 'foo'"),
        ("=x", "Invalid parameter ''"),
        ("a..b=1", "Invalid parameter 'a..b'"),
        ("0=1", "Invalid parameter '0'"),
        ("a=1,\u00e9=1", "Invalid parameter '\u00e9'"),
        ("a=1,a.b=2", "Parameters 'a.*' used inconsistently"),
        ("a.b=1,a=2", "Parameters 'a.*' used inconsistently"),
        ("a.0=1,a.x=2", "Parameters 'a.*' used inconsistently"),
        ("a.0=1,a.2=2", "Parameter 'a.1' missing"),
        ("a" * 128 + "=1", f"Parameter '{'a' * 128}' is too long"),
        ("b." + "a" * 128 + "=1", f"Parameter fragment '{'a' * 128}' is too long"),
        ("?", "Help is not available for this option"),
    ],
)
def test_syntax_errors(text, error):
    with pytest.raises(QapiError) as caught:
        parse_keyval(text)
    assert caught.value.desc == error


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("driver=null-co,size=1.5", "Parameter 'size' expects integer"),
        ("driver=null-co,latency-ns=1k", "Parameter 'latency-ns' expects integer"),
        ("driver=null-co,read-zeroes=ON", "Parameter 'read-zeroes' expects 'on' or 'off'"),
        ("driver=null-co,cache=1", "Invalid parameter type for 'cache', expected: object"),
        ("driver=null-co,node-name.x=1", "Parameters 'node-name.*' are unexpected"),
        ("driver=quorum,vote-threshold=1,children=a",
         "Invalid parameter type for 'children', expected: array"),
        ("driver=quorum,vote-threshold=1,children.0.driver=zz",
         "Parameter 'driver' does not accept value 'zz'"),
        ("driver=quorum,vote-threshold=1,children.0.driver=null-co,children.0.size=x",
         "Parameter 'children.0.size' expects integer"),
        ("driver=raw,file=f,offset=x", "Parameter 'offset' expects integer"),
        ("driver=null-co,z=1", "Parameter 'z' is unexpected"),
    ],
)  # fmt: skip
def test_typed_errors(text, error):
    schema = Profile.load("10.0").schema
    type = schema.commands["blockdev-add"].arg_type
    with pytest.raises(QapiError) as caught:
        check_keyval(type, parse_keyval(text), Traits())
    assert caught.value.desc == error


def test_typed_values():
    schema = Profile.load("10.0").schema
    type = schema.commands["migrate-set-parameters"].arg_type
    text = "multifd-channels=0x10,max-bandwidth=1.5G,direct-io=y,tls-creds=,mode=normal"
    assert check_keyval(type, parse_keyval(text), Traits()) == {
        "multifd-channels": 16,
        "max-bandwidth": 3 << 29,
        "direct-io": True,
        "tls-creds": "",
        "mode": "normal",
    }
    with pytest.raises(QapiError, match="'multifd-channels' expects uint8_t"):
        check_keyval(type, {"multifd-channels": "256"}, Traits())
    with pytest.raises(QapiError, match="'max-bandwidth' expects size"):
        check_keyval(type, {"max-bandwidth": "-1"}, Traits())


def test_merge():
    into = {"a": "1", "b": {"c": "1"}, "l": ["x"]}
    merge(into, {"a": "2", "b": {"d": "2"}, "l": ["y"]})
    assert into == {"a": "2", "b": {"c": "1", "d": "2"}, "l": ["x", "y"]}
    with pytest.raises(QapiError, match=r"Parameter 'b\.c' used inconsistently"):
        merge(into, {"b": {"c": {"e": "1"}}})
