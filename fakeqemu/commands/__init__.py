"""The QMP commands, one module per QAPI module.

A module is imported when somebody looks for one of its commands (see `lazy_registry` and `index`):
half of what a start costs would be commands that it never uses.
"""

from __future__ import annotations


def load_all() -> None:
    """Import every module of commands, and so register what they answer; again is harmless."""
    import importlib
    import pkgutil

    for module in pkgutil.walk_packages(__path__, prefix=f"{__name__}."):
        importlib.import_module(module.name)
