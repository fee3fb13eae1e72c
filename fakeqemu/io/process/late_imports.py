"""Imports of a process that has used up its descriptors.

Modules are imported when they are first needed, which opens files.
"""

from __future__ import annotations

import sys
from importlib import machinery
from types import ModuleType

from fakeqemu import spare_fd


class _SourceLoader(machinery.SourceFileLoader):
    def get_data(self, path: str) -> bytes:
        return spare_fd.reading(lambda: super(_SourceLoader, self).get_data(path))


class _ExtensionLoader(machinery.ExtensionFileLoader):
    def create_module(self, spec: machinery.ModuleSpec) -> ModuleType:
        # what the dynamic linker lacks is an ImportError
        spare_fd.drop()
        try:
            return super().create_module(spec)
        finally:
            spare_fd.hold()


class _Finder(machinery.FileFinder):
    def find_spec(
        self, fullname: str, target: ModuleType | None = None
    ) -> machinery.ModuleSpec | None:
        return spare_fd.reading(lambda: super(_Finder, self).find_spec(fullname, target))


_HOOK = _Finder.path_hook(
    (_ExtensionLoader, machinery.EXTENSION_SUFFIXES),
    (_SourceLoader, machinery.SOURCE_SUFFIXES),
    (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
)


def allow_late_imports() -> None:
    """From now on modules can be imported with all descriptors in use but one, which is kept."""
    spare_fd.hold()
    if _HOOK not in sys.path_hooks:
        sys.path_hooks.insert(0, _HOOK)
        sys.path_importer_cache.clear()
