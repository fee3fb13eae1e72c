"""The pytest plugin: one fixture, one marker, and nothing imported until a test uses it.

Machines of the fixture are strict: what the code under test got wrong and kept quiet fails the
test when the fixture ends. A failed test's report has the journals of its machines.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from typing import Never, Unpack

    from fakeqemu.testing.machine.fake import FakeQemu
    from fakeqemu.testing.machine.settings import (
        AsyncSettings,
        CopySettings,
        SyncCopySettings,
        SyncSettings,
        TemplateSettings,
    )
    from fakeqemu.testing.machine.sync import SyncFakeQemu
    from fakeqemu.testing.prepared.template import Template
    from fakeqemu.testing.recording.cassette import Cassette

T = TypeVar("T")

_MADE = pytest.StashKey["list[Any]"]()
_FAILED = pytest.StashKey[bool]()
_TEMPLATES = pytest.StashKey["dict[str, Template]"]()
#: journal entries in a report
_LINES = 60
_MARKER = (
    "fakeqemu(allow=[...], strict=True, **settings): settings for machines of the fixture "
    "`fakeqemu`; `allow` names commands or kinds of mistakes that do not fail the test"
)

_CASSETTE_MARKER = (
    "fakeqemu_cassette(*options, name=, profile='next', record='once', against='model', "
    "values=False, redact={}): the conversation of a test with the fixture `cassette`, recorded "
    "from a real QEMU and checked against the model, or replayed (against='recording')"
)


class Factory:
    """Makes machines that are stopped, and judged, when the test ends.

    `vm = await fakeqemu("-machine", "none")`, or `async with fakeqemu(...) as vm`;
    `fakeqemu.sync(...)` and `fakeqemu.sync_pair(...)` for the synchronous API;
    `src, dst = await fakeqemu.pair(...)`; `fakeqemu.template(...)` for copies of one that is
    prepared once.
    """

    def __init__(
        self, made: list[Any], settings: dict[str, Any], templates: dict[str, Template]
    ) -> None:
        self._made = made
        self._settings = settings
        self._templates = templates

    def __call__(self, *options: str, **settings: Unpack[AsyncSettings]) -> FakeQemu:
        """One machine, not started yet."""
        from fakeqemu.testing.machine.fake import FakeQemu

        return self.keep(FakeQemu(*options, **self._merged(dict(settings))))

    def sync(self, *options: str, **settings: Unpack[SyncSettings]) -> SyncFakeQemu:
        """One machine for a test that is not asynchronous, not started yet."""
        from fakeqemu.testing.machine.sync import SyncFakeQemu

        return self.keep(SyncFakeQemu(*options, **self._merged(dict(settings))))

    async def pair(
        self, *options: str, listen: bool = True, **settings: Unpack[AsyncSettings]
    ) -> tuple[FakeQemu, FakeQemu]:
        """A source and a destination that waits for it, on one clock."""
        from fakeqemu.testing.machine.pair import pair

        given: dict[str, Any] = dict(settings)
        return await pair(self, *options, listen=listen, **given)

    def sync_pair(
        self, *options: str, **settings: Unpack[SyncSettings]
    ) -> tuple[SyncFakeQemu, SyncFakeQemu]:
        """The same for a test that is not asynchronous; both are started."""
        from fakeqemu.testing.machine.sync import SyncFakeQemu

        given: dict[str, Any] = dict(settings)
        return SyncFakeQemu.pair(*options, make=self.sync, **given)

    def template(
        self,
        *options: str | Template,
        prepare: Callable[[Any], Any] | None = None,
        **settings: Unpack[TemplateSettings],
    ) -> Copies:
        """Copies of a machine that is booted, and configured by `prepare`, once a session.

        `copies()` and `copies.sync()` make one; see `fakeqemu.testing.Template`, which may be
        given in place of options.
        """
        from fakeqemu.testing.machine.settings import TemplateSettings
        from fakeqemu.testing.prepared.template import Template

        if options and isinstance(options[0], Template):
            if len(options) > 1 or prepare is not None or settings:
                raise TypeError("a Template has its options, settings and `prepare` already")
            return Copies(self, options[0])
        given = {
            name: value
            for name, value in {**self._settings, **settings}.items()
            if name in TemplateSettings.__annotations__ or name in settings
        }
        words = [str(option) for option in options]
        key = repr((words, sorted(given.items(), key=lambda item: item[0]), prepare))
        if key not in self._templates:
            self._templates[key] = Template(*words, prepare=prepare, **given)
        return Copies(self, self._templates[key])

    def keep(self, machine: T) -> T:
        """Have a machine stopped, and judged, when the test ends."""
        self._made.append(machine)
        return machine

    def of_copy(self, settings: Any) -> Any:
        """The settings of a copy, those of the marker among them."""
        return {
            name: value
            for name, value in self._merged(dict(settings)).items()
            if name in settings or name in ("name", "allow", "deadline")
        }

    def _merged(self, settings: dict[str, Any]) -> dict[str, Any]:
        number = len(self._made)
        names = {"name": f"machine-{number + 1}" if number else "machine"}
        return {**names, **self._settings, **settings}


class Copies:
    """Makes copies of a prepared machine that are stopped, and judged, when the test ends."""

    def __init__(self, factory: Factory, template: Template) -> None:
        self._factory = factory
        self.template = template

    def __call__(self, *options: Never, **settings: Unpack[CopySettings]) -> FakeQemu:
        """A copy, not started yet: `async with copies() as vm`."""
        given = self._factory.of_copy(settings)
        return self._factory.keep(self.template(*options, **given))

    def sync(self, *options: Never, **settings: Unpack[SyncCopySettings]) -> SyncFakeQemu:
        """A copy for a test that is not asynchronous: `with copies.sync() as vm`."""
        given = self._factory.of_copy(settings)
        return self._factory.keep(self.template.sync(*options, **given))

    def __enter__(self) -> None:
        self.template.__enter__()

    def __exit__(self, *_: object) -> None:
        """Never reached."""

    async def __aenter__(self) -> None:
        await self.template.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        """Never reached."""


@pytest.fixture
def fakeqemu(request: pytest.FixtureRequest) -> Iterator[Factory]:
    """A factory of machines; see `Factory` and the marker `fakeqemu`."""
    made: list[Any] = []
    request.node.stash[_MADE] = made
    settings: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("fakeqemu"))):
        settings |= marker.kwargs
    strict = settings.pop("strict", True)
    templates = request.config.stash.setdefault(_TEMPLATES, {})
    yield Factory(made, settings, templates)
    complaints = []
    # a test that failed halfway did not get to all it meant to do
    failed = request.node.stash.get(_FAILED, False)
    for machine in made:
        complaint = machine.complaints(unmet=not failed, bugs_only=not strict)
        if not (machine.was_started or failed):
            complaint = (
                f"{machine.name}: made and never started: `async with` or await it "
                "(fakeqemu.sync: `with`, or start())"
            )
        if complaint is not None:
            complaints.append(complaint)
        machine.stop_now()
    if complaints:
        pytest.fail("\n\n".join(complaints), pytrace=False)


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> Iterator[Cassette]:
    """What stands between a test and QEMU; see the marker `fakeqemu_cassette`."""
    from fakeqemu.profile import Profile
    from fakeqemu.testing.machine.settings import check_settings
    from fakeqemu.testing.recording.cassette import (
        Cassette,
        CassetteError,
        CassetteSettings,
        real_of,
    )

    marker = request.node.get_closest_marker("fakeqemu_cassette")
    options, given = ((), {}) if marker is None else (marker.args, dict(marker.kwargs))
    check_settings(given, CassetteSettings, "setting of a cassette")
    given["record"] = request.config.getoption("--fakeqemu-record") or given.get("record", "once")
    name = given.pop("name", None) or _file_name(request.node.name)
    file = request.path.parent / "cassettes" / f"{name}.jsonl"
    real = real_of(Profile.load(given.get("profile", "next")))
    made = Cassette(file, options, real=real, **given)
    said = ""
    try:
        made.start()
    except CassetteError as error:
        said = str(error)
    if said and given["record"] == "none":
        pytest.fail(said, pytrace=False)
    elif said:
        pytest.skip(said)
    yield made
    if request.node.stash.get(_FAILED, False):
        made.stop()  # a test that failed halfway did not say all it meant to
        return
    try:
        made.finish()
    except CassetteError as error:
        said = str(error)
    if said:
        pytest.fail(said, pytrace=False)


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    for marker in (_MARKER, _CASSETTE_MARKER):
        config.addinivalue_line("markers", marker)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of the files of prepared machines."""
    for template in config.stash.get(_TEMPLATES, {}).values():
        template.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where pages of failed tests go."""
    parser.getgroup("fakeqemu").addoption(
        "--fakeqemu-journals",
        metavar="DIR",
        help="write the journals of failed tests to DIR, as JSON lines and as a page",
    )
    parser.getgroup("fakeqemu").addoption(
        "--fakeqemu-record",
        choices=("once", "none", "new", "all"),
        help="when cassettes are recorded from a real QEMU, whatever their markers say",
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
        report.sections.append((title, machine.journal.timeline(_LINES, start=False)))
    directory = item.config.getoption("--fakeqemu-journals")
    if directory and journals:
        page = _save(Path(directory), item.nodeid, journals)
        report.sections.append(("fakeqemu page", str(page)))


def _file_name(test: str) -> str:
    return "".join(each if each.isalnum() or each in "-_." else "-" for each in test)


def _save(directory: Path, test: str, journals: dict[str, Any]) -> Path:
    from fakeqemu.testing.report.journal_html import page

    directory.mkdir(parents=True, exist_ok=True)
    stem = _file_name(test)
    for name, journal in journals.items():
        journal.save(directory / f"{stem}-{name}.jsonl")
    path = directory / f"{stem}.html"
    path.write_text(page(journals, title=test), "utf-8", "backslashreplace")
    return path
