"""What a file name that was given as such means, and one that is an option; temporary overlays."""

from __future__ import annotations

from typing import Any

import pytest

MB = 1 << 20


@pytest.fixture
def named(machine: Any, files: Any) -> Any:
    """A machine with a qcow2 image /a.qcow2."""
    machine.image("a")
    for name in ("a", "a-file"):
        machine.ask("blockdev-del", node_name=name)
    return machine


def add(machine: Any, options: str) -> str:
    text: str = machine.hmp(f"drive_add 0 if=none,id=d,{options}")
    return text.strip()


def test_a_name_reaches_the_file_through_formats(named: Any) -> None:
    assert add(named, "file=/a.qcow2,driver=raw,file.driver=qcow2,node-name=n") == "OK"
    node = named.vm.block.graph.nodes["n"]
    assert [node.driver.name, node.file.driver.name, node.file.file.driver.name] == [
        "raw", "qcow2", "file",
    ]  # fmt: skip


@pytest.mark.parametrize("option", ["file.filename=foo:bar", "file.filename=json:{}"])
def test_a_name_that_is_an_option_has_no_protocol(named: Any, option: str) -> None:
    name = option.partition("=")[2]
    assert f"Could not open '{name}': No such file or directory" in add(named, option)


def test_one_that_was_given_has(named: Any) -> None:
    assert "Unknown protocol 'foo'" in add(named, "file=foo:bar")
    assert add(named, "file=file:/a.qcow2,format=qcow2") == "OK"


@pytest.mark.parametrize(
    "options",
    ["file=/a.qcow2,driver=raw,backing.file.filename=/b", "file=/a.qcow2,file.backing.driver=file"],
)
def test_only_some_formats_have_backing_files(named: Any, options: str) -> None:
    assert "Driver doesn't support backing files" in add(named, options)


def test_switches_are_named_as_they_were_given(machine: Any) -> None:
    for id, value, shown in (("a", "on", '"on"'), ("b", "yes", '"yes"')):
        machine.hmp(f"drive_add 0 if=none,id={id},driver=null-co,read-zeroes={value}")
        (device,) = [each for each in machine.ask("query-block") if each["device"] == id]
        assert f'"read-zeroes": {shown}' in device["inserted"]["file"]
    machine.add("null-co", "n", read_zeroes=True, size=MB)
    assert '"read-zeroes": true' in machine.node("n")["file"]


def test_a_temporary_overlay_is_as_read_only_as_the_image(named: Any) -> None:
    assert add(named, "file=/a.qcow2,format=qcow2,snapshot=on,read-only=on") == "OK"
    (device,) = named.ask("query-block")
    shown = device["inserted"]
    assert (shown["ro"], shown["cache"]["no-flush"]) == (True, True)
    assert shown["file"].startswith('json:{"backing": {"driver": "qcow2"')


def test_without_a_folder_there_is_no_temporary_overlay(named: Any) -> None:
    def refuse() -> str:
        raise OSError(2, "No such file or directory", "/none")

    named.vm.host.files.temporary_folder = refuse
    assert (
        "Could not open temporary file '/none/vl.XXXXXX': No such file or directory"
        in add(named, "driver=null-co,snapshot=on")
    )
