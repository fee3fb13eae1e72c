"""Commands that only read the profile, and the scripts that record one."""

from tests.support.profiles import ask

__all__ = ["ask"]
