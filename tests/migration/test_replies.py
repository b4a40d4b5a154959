import json

import pytest

from unified_db.migration.replies import find_differences, is_pattern, parse_reply, show_place

KNOWN = {"a", "b", "at", "id", "messages", "data", "event", "text", "users"}


def reply(content, *, kind="application/json", status=200):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return parse_reply(status, kind, body)


def differences(old, new, *ignore, kind="application/json"):
    return {
        d.where(KNOWN): d.what for d in find_differences(reply(old, kind=kind), reply(new, kind=kind), ignore)
    }


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        pytest.param({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "x"}]}, {}, id="equal"),
        pytest.param({"a": 1, "b": 2}, {"b": 2, "a": 1}, {}, id="order-of-keys-does-not-matter"),
        pytest.param(
            [1, 2], [2, 1], dict.fromkeys(("[0]", "[1]"), "another value"), id="order-of-items-does"
        ),
        pytest.param({"a": {"b": "x"}}, {"a": {"b": "y"}}, {"a.b": "another value"}, id="value"),
        pytest.param({"a": 1}, {"a": 1.0}, {"a": "another type"}, id="one-is-not-one-point-nought"),
        pytest.param({"a": 1}, {"a": True}, {"a": "another type"}, id="one-is-not-true"),
        pytest.param({"a": None}, {}, {"a": "missing"}, id="null-is-not-missing"),
        pytest.param({}, {"a": 1}, {"a": "not there before"}, id="more"),
        pytest.param({"a": [1, 2]}, {"a": [1]}, {"a": "1 items instead of 2"}, id="shorter-list"),
        pytest.param("a\nb\nc", "a\nX\nc", {"the whole answer": "another text from line 2 on"}, id="lines"),
        pytest.param({"a": float("nan")}, {"a": float("nan")}, {}, id="nan"),
    ],
)
def test_json_is_compared_field_by_field(old, new, found):
    assert differences(old, new) == found


def test_a_key_that_may_be_data_is_not_shown():
    assert differences({"users": {"Ada": 1}}, {"users": {"Ada": 2}}) == {"users.*": "another value"}


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        pytest.param("id", {"messages[0].at", "at"}, id="a-name-wherever-it-is"),
        pytest.param("at", {"messages[0].id"}, id="a-name-at-two-depths"),
        pytest.param("messages[].at", {"messages[0].id", "at"}, id="a-path-with-every-position"),
        pytest.param("messages[0].at", {"messages[0].id", "at"}, id="a-path-with-one-position"),
        pytest.param("messages[1].at", {"messages[0].id", "messages[0].at", "at"}, id="another-position"),
        pytest.param("$.messages[].*", {"at"}, id="a-path-with-every-key"),
        pytest.param("messages", {"at"}, id="all-below-a-name"),
        pytest.param("messages[]", {"at"}, id="all-below-a-path"),
    ],
)
def test_what_is_ignored_may_differ_and_nothing_else(ignore, left):
    old = {"messages": [{"id": 1, "at": "x", "text": "t"}], "at": 1}
    new = {"messages": [{"id": 2, "at": "y", "text": "t"}], "at": 2}
    assert is_pattern(ignore)
    assert differences(old, new, ignore).keys() == left


def test_a_field_that_is_ignored_may_be_missing():
    assert differences({"a": 1, "at": 1}, {"a": 1}, "at") == {}


@pytest.mark.parametrize("text", ["", ".", "a..b", "a[b]", "[", "a.", ".a"])
def test_what_is_no_field_is_no_pattern(text):
    assert not is_pattern(text)


def test_streams_are_compared_event_by_event():
    old = b'event: token\ndata: {"text": "a", "id": 1}\n\n: still here\n\nevent: end\ndata: [DONE]\n\n'
    new = b'event: token\r\ndata: {"text": "b", "id": 2}\r\n\r\nevent: end\r\ndata: [DONE]\r\n\r\n'
    kind = "text/event-stream; charset=utf-8"
    assert differences(old, new, "id", kind=kind) == {"[0].data.text": "another value"}
    assert differences(old, old.replace(b"end", b"error"), kind=kind) == {"[1].event": "another value"}
    assert differences(old, old.partition(b"event: end")[0], kind=kind) == {
        "the whole answer": "1 items instead of 2"
    }


def test_lines_of_json_are_compared_line_by_line():
    kind = "application/x-ndjson"
    assert differences(b'{"a":1}\n{"a":2}\n', b'{"a":1}\n{"a":3}\n', kind=kind) == {"[1].a": "another value"}


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-stream", ""])
@pytest.mark.parametrize(
    "old", [b"not { json", b"\xff\xfe\x00", b"[" * 100_000], ids=["text", "bytes", "deep"]
)
def test_what_is_no_json_is_compared_whole(kind, old):
    assert differences(old, old, kind=kind) == {}
    assert differences(old, old + b"!", kind=kind).keys() == {"the whole answer"}


def test_status_and_kind_count():
    old = reply({})
    assert [d.what for d in find_differences(old, reply({}, status=404))] == ["404 instead of 200"]
    assert [d.where(KNOWN) for d in find_differences(old, reply({}, kind="text/html"))] == ["content type"]


def test_a_difference_explains_those_below_it_and_not_those_above():
    (whole,) = find_differences(reply({"a": [1]}), reply({"a": []}))
    (item,) = find_differences(reply({"a": [1]}), reply({"a": [2]}))
    assert whole.explains(item)
    assert not item.explains(whole)


def test_a_fresh_key_explains_another_one_and_no_key_that_is_gone():
    again = find_differences(reply({"a": 1, "x": 1}), reply({"a": 1, "y": 1}))
    new = find_differences(reply({"a": 1, "x": 1}), reply({"z": 1}))
    left = [d for d in new if not any(known.explains(d) for known in again)]
    assert [(d.place, d.what) for d in left] == [(("a",), "missing")]


def test_a_place_is_shown_as_ignore_takes_it():
    assert show_place(("messages", 3, "id"), KNOWN, every=True) == "messages[].id"
