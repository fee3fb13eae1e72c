"""The pytest plugin: one fixture, one marker, and nothing imported until a test uses it.

Machines of the fixture are strict: what the code under test got wrong and kept quiet fails the
test when the fixture ends. A failed test's report has the journals of its machines.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fakeqemu.testing.machine.fake import FakeQemu
    from fakeqemu.testing.machine.sync import SyncFakeQemu

_MADE = pytest.StashKey["list[Any]"]()
_FAILED = pytest.StashKey[bool]()
#: journal entries in a report
_LINES = 60
_MARKER = (
    "fakeqemu(allow=[...], strict=True, **settings): settings for machines of the fixture "
    "`fakeqemu`; `allow` names commands or kinds of mistakes that do not fail the test"
)


class Factory:
    """Makes machines that are stopped, and judged, when the test ends.

    `vm = await fakeqemu("-machine", "none")`, or `async with fakeqemu(...) as vm`;
    `fakeqemu.sync(...)` and `fakeqemu.sync_pair(...)` for the synchronous API;
    `src, dst = await fakeqemu.pair(...)`.
    """

    def __init__(self, made: list[Any], settings: dict[str, Any]) -> None:
        self._made = made
        self._settings = settings

    def __call__(self, *options: str, **settings: Any) -> FakeQemu:
        """One machine, not started yet."""
        from fakeqemu.testing.machine.fake import FakeQemu

        machine = FakeQemu(*options, **self._merged(settings))
        self._made.append(machine)
        return machine

    def sync(self, *options: str, **settings: Any) -> SyncFakeQemu:
        """One machine for a test that is not asynchronous, not started yet."""
        from fakeqemu.testing.machine.sync import SyncFakeQemu

        machine = SyncFakeQemu(*options, **self._merged(settings))
        self._made.append(machine)
        return machine

    async def pair(self, *options: str, **settings: Any) -> tuple[FakeQemu, FakeQemu]:
        """A source and a destination that waits for it, on one clock."""
        from fakeqemu.testing.machine.pair import pair

        return await pair(self, *options, **settings)

    def sync_pair(self, *options: str, **settings: Any) -> tuple[SyncFakeQemu, SyncFakeQemu]:
        """The same for a test that is not asynchronous; both are started."""
        from fakeqemu.testing.machine.sync import SyncFakeQemu

        return SyncFakeQemu.pair(*options, make=self.sync, **settings)

    def _merged(self, settings: dict[str, Any]) -> dict[str, Any]:
        number = len(self._made)
        names = {"name": f"machine-{number + 1}" if number else "machine"}
        return {**names, **self._settings, **settings}


@pytest.fixture
def fakeqemu(request: pytest.FixtureRequest) -> Iterator[Factory]:
    """A factory of machines; see `Factory` and the marker `fakeqemu`."""
    made: list[Any] = []
    request.node.stash[_MADE] = made
    settings: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("fakeqemu"))):
        settings |= marker.kwargs
    strict = settings.pop("strict", True)
    yield Factory(made, settings)
    complaints = []
    # a test that failed halfway did not get to all it meant to do
    failed = request.node.stash.get(_FAILED, False)
    for machine in made:
        complaint = machine.complaints(unmet=not failed, bugs_only=not strict)
        if complaint is not None:
            complaints.append(complaint)
        machine.stop_now()
    if complaints:
        pytest.fail("\n\n".join(complaints), pytrace=False)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where pages of failed tests go."""
    parser.getgroup("fakeqemu").addoption(
        "--fakeqemu-journals",
        metavar="DIR",
        help="write the journals of failed tests to DIR, as JSON lines and as a page",
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Put the journals of a failed test's machines into its report."""
    outcome = yield
    if outcome.get_result().failed:
        item.stash[_FAILED] = True
    made = item.stash.get(_MADE, None)
    if not made:
        return
    report = outcome.get_result()
    if not report.failed:
        return
    journals = {}
    for machine in made:
        try:
            journals[machine.name] = machine.journal
        except RuntimeError:
            continue  # it was never started
        title = f"fakeqemu journal of {machine.name} (seed {machine.seed})"
        report.sections.append((title, machine.journal.timeline(_LINES)))
    directory = item.config.getoption("--fakeqemu-journals")
    if directory and journals:
        page = _save(Path(directory), item.nodeid, journals)
        report.sections.append(("fakeqemu page", str(page)))


def _save(directory: Path, test: str, journals: dict[str, Any]) -> Path:
    from fakeqemu.testing.report.journal_html import page

    directory.mkdir(parents=True, exist_ok=True)
    stem = "".join(each if each.isalnum() or each in "-_." else "-" for each in test)
    for name, journal in journals.items():
        journal.save(directory / f"{stem}-{name}.jsonl")
    path = directory / f"{stem}.html"
    path.write_text(page(journals, title=test), "utf-8", "backslashreplace")
    return path
