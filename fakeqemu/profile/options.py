"""How a profile is named to another `fakeqemu`, which may run in another directory."""

from __future__ import annotations

from fakeqemu.profile import store
from fakeqemu.profile.profile import Profile


def options_for(profile: Profile) -> list[str]:
    """The options of `fakeqemu` that load it again."""
    folder = profile.folder.absolute()
    if store.schemas_dir() in (folder.parent, folder.parent.parent):
        return ["--profile", profile.name]
    plain = profile
    while plain.base is not None and plain.base.folder == plain.folder:
        plain = plain.base
    laid = [each.text for each in profile.proposals if each not in plain.proposals]
    return ["--profile", str(folder), *(["--proposal", ",".join(laid)] if laid else [])]
