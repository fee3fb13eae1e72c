"""Commands that only read the profile, and the scripts that record one."""

from tests.support.profiles import ask, recording

__all__ = ["ask", "recording"]
