"""The machines of tests/model, for tests of commands."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "running_machines", Path(__file__).parent.parent / "model" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
start = _module.start
q35 = _module.q35
