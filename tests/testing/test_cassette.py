"""Conversations that are recorded once and checked, or replayed, ever after."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.profile import Profile
from fakeqemu.testing import UnknownNameError
from fakeqemu.testing.recording.cassette import Cassette, CassetteError, real_of
from tests.support import inner_pytest

OPTIONS = ("-machine", "none", "-nodefaults")
#: what a client asks
ASKED = ("query-status", "query-name", "stop")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that takes QEMU's options, in place of a real one."""
    folder = tmp_path_factory.mktemp("emulator")
    subprocess.run(
        [sys.executable, "-m", "fakeqemu", "emulator", str(folder), "--profile", "10.0"],
        capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    return str(folder / "qemu-system-x86_64")


def talk(cassette: Cassette, *asked: Any) -> list[Any]:
    """A client's conversation; the replies."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(cassette.socket_path)
        file = client.makefile("rw")
        assert "QMP" in file.readline()
        replies = []
        for command in ("qmp_capabilities", *asked):
            request = {"execute": command} if isinstance(command, str) else command
            file.write(json.dumps(request) + "\n")
            file.flush()
            while "event" in (reply := json.loads(file.readline())):
                pass
            replies.append(reply)
        client.shutdown(socket.SHUT_WR)
        file.read()
    return replies[1:]


def play(file: Path, *asked: Any, **settings: Any) -> Cassette:
    """A whole test with these requests."""
    options = settings.pop("options", OPTIONS)
    cassette = Cassette(file, options, **{"profile": "10.0", **settings})
    cassette.start()
    talk(cassette, *(asked or ASKED))
    cassette.finish()
    return cassette


@pytest.fixture
def file(tmp_path: Path, other: str) -> Path:
    """A recording of ASKED."""
    made = tmp_path / "cassettes" / "test.jsonl"
    play(made, real=other)
    return made


class TestModes:
    def test_once_records_and_then_checks(self, file: Path, other: str) -> None:
        text = file.read_text()
        assert '"query-name"' in text and '"running"' in text
        for real in (None, other):
            play(file, real=real)
            assert file.read_text() == text
        assert repr(Cassette(file, OPTIONS)) == "<Cassette test.jsonl: checked against the model>"

    def test_without_a_recording_and_a_real_one(self, tmp_path: Path, other: str) -> None:
        with pytest.raises(CassetteError, match=r"a real QEMU 10\.0 is needed"):
            Cassette(tmp_path / "none.jsonl", OPTIONS, profile="10.0").start()
        with pytest.raises(CassetteError, match="record='none' makes none"):
            play(tmp_path / "none.jsonl", record="none", real=other)
        assert list(tmp_path.iterdir()) == []

    def test_all_records_each_time(self, file: Path, other: str) -> None:
        play(file, "query-status", record="all", real=other)
        assert "query-name" not in file.read_text()
        with pytest.raises(CassetteError, match="needed"):
            play(file, record="all")

    def test_new_records_what_is_asked_anew(self, file: Path, other: str) -> None:
        before = file.read_text()
        play(file, record="new", real=other)
        assert file.read_text() == before
        play(file, *ASKED, "query-version", record="new", real=other)
        assert "query-version" in file.read_text()

    def test_names_are_checked(self, file: Path) -> None:
        with pytest.raises(UnknownNameError, match="mode of recording"):
            Cassette(file, record="onse")  # type: ignore[arg-type]
        with pytest.raises(UnknownNameError, match="way of a cassette"):
            Cassette(file, against="modell")  # type: ignore[arg-type]


class TestTheModelIsChecked:
    def changed(self, file: Path, old: str, new: str) -> None:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def test_a_member_more(self, file: Path) -> None:
        self.changed(file, '"status": "running"', '"status": "running", "singlestep": false')
        with pytest.raises(CassetteError, match=r"shape: 1\.2 query-status: return\.singlestep"):
            play(file)

    def test_values_only_where_that_is_asked(self, file: Path) -> None:
        self.changed(file, '"status": "running"', '"status": "paused"')
        play(file)
        with pytest.raises(CassetteError, match=r'recorded "paused", got "running"'):
            play(file, values=True)

    def test_an_event_that_does_not_come(self, file: Path) -> None:
        self.changed(file, '"event": "STOP"', '"event": "RESUME"')
        with pytest.raises(CassetteError, match="RESUME"):
            play(file)

    def test_other_requests(self, file: Path) -> None:
        with pytest.raises(CassetteError, match=r"query-name.* was recorded, .*query-uuid"):
            play(file, "query-status", "query-uuid", "stop")
        with pytest.raises(CassetteError, match="4 commands were recorded, 2 came"):
            play(file, "query-status")

    def test_other_connections(self, file: Path) -> None:
        cassette = Cassette(file, OPTIONS, profile="10.0")
        cassette.start()
        talk(cassette, *ASKED)
        talk(cassette, "query-status")
        with pytest.raises(CassetteError, match="1 connections were recorded, 2 came"):
            cassette.finish()


class TestTheRecordingAnswers:
    def test_as_it_was_recorded(self, file: Path) -> None:
        file.write_text(file.read_text().replace('"status": "running"', '"status": "debug"'))
        cassette = Cassette(file, profile="10.0", against="recording")
        cassette.start()
        assert talk(cassette, *ASKED)[0]["return"]["status"] == "debug"
        cassette.finish()

    def test_what_was_not_recorded_is_a_mistake(self, file: Path) -> None:
        with pytest.raises(CassetteError, match="expected query-name, got"):
            play(file, "query-status", "query-uuid", against="recording")


class TestRedaction:
    def test_texts_of_one_run_stay_out_of_the_file(self, tmp_path: Path, other: str) -> None:
        made = tmp_path / "test.jsonl"
        secret = {"execute": "blockdev-add", "arguments": {
            "driver": "null-co", "node-name": "n", "read-zeroes": True}}  # fmt: skip
        options = (*OPTIONS, "-name", 'guest="acme"-7')
        settings = {"options": options, "redact": {"${customer}": '"acme"-7'}}
        asked = ("query-name", "query-chardev", secret)
        play(made, *asked, real=other, **settings)
        text = made.read_text()
        assert "acme" not in text and "${customer}" in text
        assert "/fq-" not in text and "${dir}" in text
        # a run in another directory still finds its own
        play(made, *asked, values=True, **settings)
        play(made, *asked, against="recording", **settings)
        other_name = {**settings, "options": (*OPTIONS, "-name", "guest=initech")}
        with pytest.raises(CassetteError, match="acme"):
            play(made, *asked, values=True, **other_name)

    def test_what_comes_up_in_many_words_is_left(self, file: Path) -> None:
        assert "${user}" not in file.read_text() or len(os.environ.get("USER", "")) > 4


@pytest.mark.timeout(300)
class TestThePlugin:
    @pytest.fixture
    def project(self, tmp_path: Path, file: Path) -> Iterator[Path]:
        """A project with a test, and a recording of it."""
        (tmp_path / "test_it.py").write_text(
            "import socket\n"
            "import pytest\n"
            f"@pytest.mark.fakeqemu_cassette(*{OPTIONS!r}, name='test', profile='10.0')\n"
            "def test_it(cassette):\n"
            "    from tests.testing.test_cassette import talk\n"
            f"    talk(cassette, *{ASKED!r})\n"
        )
        yield tmp_path

    def run(self, project: Path, *options: str, **variables: str) -> str:
        root = str(Path(__file__).parents[2])
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *options],
            cwd=project, env=inner_pytest.environment(PYTHONPATH=root, **variables),
            capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def test_a_recording_is_used(self, project: Path, file: Path) -> None:
        assert "1 passed" in self.run(project, FAKEQEMU_REAL_QEMU="/none")
        file.write_text(file.read_text().replace('"running": true', '"running": 1'))
        out = self.run(project, FAKEQEMU_REAL_QEMU="/none")
        assert "shape: 1.2 query-status: return.running: recorded 1, got true" in out

    def test_without_one_it_is_skipped_or_fails(self, project: Path, file: Path) -> None:
        file.unlink()
        out = self.run(project, FAKEQEMU_REAL_QEMU="/none")
        assert "1 skipped" in out and "a real QEMU 10.0 is needed" in out
        out = self.run(project, "--fakeqemu-record", "none", FAKEQEMU_REAL_QEMU="/none")
        assert "1 error" in out and "makes none" in out

    def test_settings_are_checked(self, project: Path) -> None:
        test = project / "test_it.py"
        test.write_text(test.read_text().replace("profile=", "profil="))
        assert "did you mean 'profile'" in self.run(project)


@pytest.mark.real
@pytest.mark.qemu("7.2")
def test_a_real_one_is_recorded_and_the_model_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    real = real_of(Profile.load("7.2"))
    assert real is not None
    asked = (*ASKED, "query-machines", "query-chardev", "query-block", "cont", "no-such")
    play(file, *asked, profile="7.2", real=real)
    play(file, *asked, profile="7.2", values=True)
