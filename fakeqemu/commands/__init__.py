"""The QMP commands, one module per QAPI module.

Nothing is imported before somebody looks into a `Table`: a client is greeted before its first
command comes, and half of what a start costs would be commands it never uses.
"""

from __future__ import annotations


def load_all() -> None:
    """Import every module of commands, and so register what they answer; again is harmless."""
    import importlib
    import pkgutil

    for module in pkgutil.walk_packages(__path__, prefix=f"{__name__}."):
        importlib.import_module(module.name)
