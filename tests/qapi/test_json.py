"""The JSON of the wire: tokens, grammar, recovery and output form, in both flavours."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from fakeqemu.qapi import qdict
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json import lexer, parser
from fakeqemu.qapi.json.streamer import JsonStream, ParseError, Value, parse_json
from fakeqemu.qapi.json.utf8 import NUL, c_bytes
from fakeqemu.qapi.json.writer import Fixed, FixedObject, encode, encode_short, quote
from fakeqemu.traits import TRAITS

OLDER, NEWER = TRAITS["10.0"], TRAITS["11.1"]

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cn"])).map(lambda t: t.replace("\0", NUL)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abcdxyz-_", max_size=4), inner),
)


def texts(data: bytes, traits=OLDER) -> list[object]:
    return [m.text if isinstance(m, ParseError) else m.value for m in JsonStream(traits).feed(data)]


@pytest.mark.parametrize(
    ("data", "older", "newer"),
    [
        (b"{]", ["expecting value"], ["1:2: expecting key"]),
        (b"{1:2}", ["key is not a string in object"], ["1:2: expecting key"]),
        (b"{nope:1}", ["invalid keyword 'nope'"], ["1:2: expecting key"]),
        (b"{[1]:2}", ["key is not a string in object"], ["1:2: expecting key"]),
        (b'{"a"}', ["missing : in object pair"], ["1:5: expecting ':'"]),
        (b'{"a":1 2}', ["expected separator in dict"], ["1:8: expected ',' or '}'"]),
        (b"[1 2]", ["expected separator in list"], ["1:4: expected ',' or ']'"]),
        (b'[{"a":1,"a":[2]}]', ["duplicate key"], ["1:16: duplicate key"]),
        (b'{"a":[}', [], ["1:7: expecting value"]),
        (b'{"a":[}\xff', ["stray '\ufffd'"], ["1:7: expecting value"]),
        (b"[1 2 01]", ["stray '01'", "expecting value"],
         ["1:4: expected ',' or ']'", "1:9: expecting value"]),
        (b'{"id":NaN}', ["stray 'N'", "expecting value"],
         ["1:7: stray 'N'", "1:11: expecting value"]),
        (b"[1.]", ["stray '1.]'"], ["1:2: stray '1.]'"]),
        (b'["a\x01', ["stray '\"a\x01'"], ["1:2: stray '\"a\x01'"]),
        (b"[\x00", ["stray ''"], ["1:2: stray ''"]),
        (b'["\\x"]', ["invalid escape sequence in string"],
         ["1:2: invalid escape sequence in string"]),
        (b'["\xed\xa0\x80"]', ["invalid UTF-8 sequence in string"],
         ["1:2: invalid UTF-8 sequence in string"]),
        (b'["\\ud800"]', ["\\ud800 is not a valid Unicode character"],
         ["1:2: \\ud800 is not a valid Unicode character"]),
        (b'["\\u12"]', ['\\u12"'[:6] + " is not a valid Unicode character"],
         ['1:2: \\u12" is not a valid Unicode character']),
    ],
)  # fmt: skip
def test_errors(data, older, newer):
    assert texts(data) == [f"JSON parse error, {text}" for text in older]
    at_place = [text.partition(": ") for text in newer]
    assert texts(data, NEWER) == [f"{at}: JSON parse error, {text}" for at, _, text in at_place]


def test_lines_and_columns_count_from_the_start_of_the_connection():
    stream = JsonStream(NEWER)
    assert stream.feed(b"\r\n\r\n{}\n") == [Value({})]
    assert stream.feed(b"\n  }") == [ParseError("5:3: JSON parse error, expecting value")]


def test_a_nul_is_the_two_bytes_that_a_c_string_can_hold():
    (message,) = JsonStream(OLDER).feed(b'["a\\u0000b", "\xc3\xa9"]')
    assert [c_bytes(each) for each in message.value] == [b"a\xc0\x80b", b"\xc3\xa9"]
    assert encode(message.value) == '["a\\u0000b", "\\u00E9"]'


@pytest.mark.parametrize("traits", [OLDER, NEWER])
def test_what_rfc_8259_does_not_know(traits):
    assert texts(b"{'it\\'s': \"\\u0000\xc0\x80\"}", traits) == [{"it's": NUL * 2}]
    assert texts(b"[18446744073709551615, 18446744073709551616, -9223372036854775809]", traits) == [
        [2**64 - 1, 2.0**64, -(2.0**63)]
    ]
    assert texts(b"[1e400] true 5", traits) == [[math.inf], True]
    assert texts(b"5 ", traits) == [5]


@pytest.mark.parametrize("traits", [OLDER, NEWER])
def test_nesting_limit(traits):
    deepest = b"[" * 1024 + b"]" * 1024
    (value,) = texts(deepest, traits)
    assert encode(value) == deepest.decode()
    assert texts(b"[" * 1025, traits) == ["JSON nesting depth limit exceeded"]


@given(st.lists(st.binary(max_size=12)), st.sampled_from([OLDER, NEWER]))
def test_any_bytes_and_then_a_good_message(pieces, traits):
    stream = JsonStream(traits)
    for piece in pieces:
        stream.feed(piece)
    # 0xFF brings any state back to the start, in the newer flavour at the second
    for _ in range(2):
        stream.feed(b"\xff\n")
    assert stream.feed(b'{"a": 1}\n') == [Value({"a": 1})]


PIECES = [
    b"{", b"}", b"[", b"]", b":", b",", b'"a"', b"'c'", b"1", b"-", b"1.", b"0", b"true", b"nope",
    b" ", b"\n", b"\t", b"\x01", b"\xff", b'"\\ud800"', b'"', b"\\", b"#", b'{"a":', b"1e5",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES)), st.data(), st.sampled_from([OLDER, NEWER]))
def test_cuts_between_bytes_do_not_matter(pieces, data, traits):
    whole = b"".join(pieces)
    cut = data.draw(st.integers(0, len(whole)))
    stream = JsonStream(traits)
    assert stream.feed(whole[:cut]) + stream.feed(whole[cut:]) == JsonStream(traits).feed(whole)


STRINGS = [
    b"\\\\", b'\\"', b"\\'", b"\\/", b"\\n", b"a", b"'", b"bc" * 20, b"\\u00e9", b"\\ud83d",
    b"\\ude00", b"\\ud83d\\ude00", b"\\u0000", b"\\ufffe", b"\xc3\xa9", b"\xc0\x80", b"\xff",
    b"\xef\xb7\x90", b"\\x",
    b"\\udcc0\\udc80", b"\xf0\x9f\x98\x80" * 8, b"\\u12", b"u", b"ud83d", b"\xed\xa0\x80", b"\xc3",
]  # fmt: skip


@given(st.lists(st.sampled_from(STRINGS), max_size=40), st.integers(1, 40))
def test_a_string_reads_the_same_in_pieces_as_escape_by_escape(parts, piece):
    token = b'"' + b"".join(parts) + b'"'

    def outcome(read):
        try:
            return read()
        except parser._MistakeError as mistake:
            return mistake.args

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parser, "_PIECE", piece)
        found = outcome(parser.StringReader(token).text)
    assert found == outcome(lambda: parser._escape_by_escape(token, 1, len(token) - 1)[0])


def test_a_long_string_takes_several_turns():
    stream = JsonStream(OLDER)
    stream.push(b'["' + b"\\u00e9" * 400_000 + b'", "\\x' + b"y" * 100_000 + b'"]')
    turns = 1
    while (message := stream.next_message(512)) is None:
        assert stream.pending
        turns += 1
    assert message == ParseError("JSON parse error, invalid escape sequence in string")
    assert turns > 2


@given(JSON, st.booleans(), st.sampled_from([OLDER, NEWER]))
def test_what_is_written_reads_back(value, pretty, traits):
    (message,) = JsonStream(traits).feed(encode(value, pretty).encode("ascii") + b"\n")
    assert isinstance(message, Value)
    assert message.value == value


def test_output_form():
    assert encode({"id": 1, "return": {}}) == '{"return": {}, "id": 1}'
    assert encode({"id": 1, "error": {}}) == '{"id": 1, "error": {}}'
    assert encode([0.1, 1.0, 1e300, math.inf, -0.0]) == (
        "[0.10000000000000001, 1, 1.0000000000000001e+300, inf, -0]"
    )
    assert encode("\x7f\u00e9\U0001f600\x1f/\b") == '"\\u007F\\u00E9\\uD83D\\uDE00\\u001F/\\b"'
    assert encode({"a": [], "b": [1, {}]}, pretty=True) == (
        '{\n    "a": [\n    ],\n    "b": [\n        1,\n        {\n        }\n    ]\n}'
    )


def test_members_of_one_bucket_come_newest_first():
    names = [a + b + c for a in "abcdefgh" for b in "ijklmnop" for c in "qrstuvwx"]
    same = max(
        ([name for name in names if qdict.bucket(name) == bucket] for bucket in range(512)),
        key=len,
    )
    assert len(same) > 1
    assert [name for name, _ in qdict.items(dict.fromkeys(same))] == same[::-1]


@pytest.mark.parametrize(
    ("text", "older", "newer"),
    [
        ("", "Expecting a JSON value", "Expecting a JSON value"),
        ("{} {}", "Expecting at most one JSON value", "Expecting at most one JSON value"),
        ('{"a":', "JSON parse error, premature EOI",
         "1:6: JSON parse error, premature end of input"),
        ('{"a":1', "JSON parse error, premature EOI",
         "1:8: JSON parse error, premature end of input"),
        ("{'a':'b", "JSON parse error, stray ''b'", "1:6: JSON parse error, stray ''b'"),
    ],
)  # fmt: skip
def test_json_on_the_command_line(text, older, newer):
    for traits, expected in ((OLDER, older), (NEWER, newer)):
        with pytest.raises(QapiError) as caught:
            parse_json(text, traits)
        assert caught.value.desc == expected
    assert parse_json("{'a': [1]}", OLDER) == {"a": [1]}


#: what a client may write: plain objects, and what is nearly one
PIECES = st.sampled_from([
    b"{", b"}", b"[", b"]", b",", b":", b'"a"', b'"b":', b'"a": 1', b"'a'", b"\r\n", b" ", b"\n",
    b"0", b"-0", b"01", b"0e1", b"-0E0", b"1e5", b"1.50", b"1.", b"-", b"NaN", b"Infinity",
    b"-Infinity", b"nan", b"true", b"null", b"false", b"tru", b"9223372036854775808", b"-1",
    b"18446744073709551615", b"18446744073709551616", b"-9223372036854775809", b"1" * 5000,
    b"1e999", b'"\\u0041"', b'"\\u0000"', b'"\\ud800"', b'"\\n\\"\\/"', b"\"\\'\"", b'"\x7f"',
    b'"\t"', b'"\0"', b"\0", b"\xff", b'"\xc3\xa9"', b'"\xc0\x80"', b'"\xed\xa0\x80"',
    b'"\\\\u0041"', b'{"execute": "query-status"}', b'{"a":{"b":[1,{"c":null}]},"d":""}\r\n',
    b'{"a":1,"a":2}', b"[" * 600, b"]" * 600, b'{"a":' * 600, b"}" * 600,
    b'{"a":' * 600 + b"1" + b"}" * 600,
    b'{"a":' + b"[" * 1023 + b"]" * 1023 + b"}", b'{"a":' + b"[" * 1024 + b"]" * 1024 + b"}",
    b'{"a":"' + b"x" * 2000 + b'"}', b"{}" * 1100,
])  # fmt: skip
VALUES = JSON.map(lambda value: encode({"a": value}).encode())


@given(st.lists(PIECES | VALUES | st.binary(max_size=3)), st.lists(st.integers(1, 40), max_size=9))
def test_the_interpreters_own_scanner_reads_what_qemus_reader_reads(pieces, cuts):
    """Values, texts of errors and where the next message begins, however the input is cut."""
    data = b"".join(pieces)
    for traits in (OLDER, NEWER):
        plain, by_rules = JsonStream(traits), JsonStream(traits, plain=False)
        at = 0
        for size in [*cuts, len(data)]:
            part, at = data[at : at + size], at + size
            assert repr(plain.feed(part)) == repr(by_rules.feed(part))
        # a mistake says where it is
        assert plain.feed(b"\xff\n}") == by_rules.feed(b"\xff\n}")
        assert plain.feed_eof() == by_rules.feed_eof()


def test_the_interpreters_own_scanner_reads_plain_objects(monkeypatch):
    monkeypatch.setattr(lexer.Lexer, "next", lambda _: None)
    stream = JsonStream(NEWER)
    assert stream.feed(b' {"a": [1, "\\n", {}]}\r\n{"b": null} {"c') == [
        Value({"a": [1, "\n", {}]}), Value({"b": None}),
    ]  # fmt: skip
    assert stream.feed(b'": 1.5}') == [Value({"c": 1.5})]
    long = b'{"a": "' + b"x" * (1 << 17) + b'"}'
    assert stream.feed(long) == [], "read in several turns, by the rules"


@given(JSON)
def test_short_values_are_written_as_long_ones(value):
    text = encode_short(value)
    assert text is None or text == encode(value)


@pytest.mark.parametrize(
    ("value", "short"),
    [
        ({"return": {"status": "running", "n": 1.5}}, True), ({"return": ["x"] * 100}, True),
        ({"return": ["x"] * 300}, False), ([[[0] * 50] * 50], False), ("x" * 5000, False),
        ({"return": Fixed(["x"] * 5000)}, False), ({"return": object()}, False),
    ],
)  # fmt: skip
def test_what_is_short_is_written_in_one_go(value, short):
    assert (encode_short(value) is not None) is short


def test_an_object_that_never_changes_keeps_its_short_text():
    kept = FixedObject({"event": "STOP", "data": FixedObject({"a": [1, "x"]})})
    text = encode_short(kept)
    assert text == encode(dict(kept)) == kept.text
    kept["event"] = "RESUME"
    assert encode_short(kept) == text == encode(kept)


def test_what_has_its_text_is_short():
    fixed = Fixed(["x"] * 5000)
    assert encode_short({"return": fixed}) is None
    assert encode({"return": fixed}) == encode_short({"return": fixed})


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("\ud800", "\\uFFFD"), ("\udfff", "\\uFFFD"), ("\ufdd0", "\\uFFFD"),
        ("\uffff", "\\uFFFD"), ("\ue000", "\\uE000"), ("\U0001f600", "\\uD83D\\uDE00"),
        (NUL, "\\u0000"), ("\x7f", "\\u007F"), ('"\\\b', '\\"\\\\\\b'), ("é~", "\\u00E9~"),
    ],
)  # fmt: skip
def test_how_characters_are_written(text, written):
    """See qobject/json-writer.c: quoted_str(): what is no character becomes U+FFFD."""
    assert quote(text) == f'"{written}"'
    assert quote(f"a{text}b") == f'"a{written}b"'
