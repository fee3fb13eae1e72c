"""pytest that a test runs: what the outer one or a CI system says in variables is not for it."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: pytest prints other lines where one of these is set; see _pytest/compat.py: running_on_ci()
_CI = ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "COLUMNS", "FORCE_COLOR", "PY_COLORS")


def environment(**added: str) -> Mapping[str, str]:
    """The variables for a pytest of one's own, and those added."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTEST_") and name not in _CI
    } | added
