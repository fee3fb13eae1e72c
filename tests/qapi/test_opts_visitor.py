"""Option strings read as a type, each key by its own name."""

from __future__ import annotations

import pytest

from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.opts_visitor import visit_options


@pytest.mark.parametrize(
    ("keys", "reported"),
    [
        ("share size", "size"),
        ("size share", "size"),
        ("foo share", "share"),
        ("size foo", "size"),
        ("share bar size", "size"),
    ],
)
def test_the_first_in_the_table_of_keys_is_reported(keys, reported):
    """Beside a real 7.2 and 10.0: `-object tls-creds-anon,id=o1,KEY=1,...`."""
    profile = Profile.load("10.0")
    kind = profile.schema.commands["object-add"].arg_type
    pairs = [("qom-type", "tls-creds-anon"), *((key, "1") for key in keys.split())]
    with pytest.raises(QapiError) as error:
        visit_options(pairs, "o1", kind, profile.traits, "object-add")
    assert error.value.desc == f"Invalid parameter '{reported}'"
