import gc
import json
import threading
import time
from itertools import product
from typing import Any

import pytest
from session_worker import NotedTurn
from werkzeug.datastructures import Headers, MultiDict

from protocol.request import ChatRequest, read_request
from turns.session_keys import ID_LIMIT, SessionKeys
from turns.sessions import Sessions, Standing, standing

HELLO = {"role": "user", "content": "Hello!"}
BOTH, ONLY_ENDED, NEITHER = Standing(True, True), Standing(False, True), Standing(False, False)


def chat(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    return read_request(json.dumps({"messages": messages or [HELLO], **fields}).encode())


def user(uid: Any, content: str = "Hello!") -> dict[str, Any]:
    return {"role": "user", "content": content, "metadata": {"source": "asr", "user": uid, "more": {"a": [1]}}}


def key(
    request: ChatRequest | None = None,
    *,
    header: str | None = None,
    query: str | None = None,
    shown: str = "sk-1",
    endpoint: str = "chat",
    keys: SessionKeys | None = None,
) -> str | None:
    headers = Headers({} if header is None else {"x-session-id": header})
    arguments = MultiDict({} if query is None else {"session_id": query})
    return (keys or SessionKeys()).key_of(endpoint, shown, request or chat(), headers, arguments)


# where an id comes from


def test_a_request_without_an_id_has_no_session() -> None:
    assert key() is None


def test_the_same_id_is_the_same_session_wherever_it_is_carried() -> None:
    found = {
        key(header="call-7"),
        key(chat(session_id="call-7")),
        key(chat(params={"session_id": "call-7"})),
        key(query="call-7"),
    }

    assert len(found) == 1
    assert None not in found


def test_the_header_goes_before_the_root_and_the_root_before_the_query() -> None:
    assert key(chat(session_id="b"), header="a", query="c") == key(header="a")
    assert key(chat(session_id="b"), query="c") == key(header="b")
    assert key(chat(session_id="b", params={"session_id": "c"})) == key(header="b")


@pytest.mark.parametrize("blank", ["", " ", "\t\u3000"])
def test_a_blank_place_carries_no_id(blank: str) -> None:
    assert key(chat(session_id=blank), header=blank.strip("\u3000"), query="c") == key(header="c")
    assert key(chat(session_id=blank), query=blank) is None


def test_null_is_no_id() -> None:
    assert key(chat(session_id=None), query="c") == key(query="c")


def test_a_whole_number_is_an_id() -> None:
    assert key(chat(session_id=7)) == key(query="7")
    assert key(chat(session_id=0)) == key(query="0")


@pytest.mark.parametrize("odd", [True, 1.5, [], ["a"], {}, {"id": "a"}, 10**90], ids=str)
def test_anything_else_is_none_and_nothing_else_is_looked_for(odd: Any) -> None:
    assert key(chat(session_id=odd)) is None
    assert key(chat(session_id=odd), query="c") is None


def test_an_id_may_have_so_many_characters_and_no_more() -> None:
    for character in ("a", "会"):
        assert key(chat(session_id=character * ID_LIMIT)) is not None
        assert key(chat(session_id=character * (ID_LIMIT + 1))) is None
    assert key(header="a" * (ID_LIMIT + 1), query="c") is None


def test_white_space_around_an_id_is_none_of_it() -> None:
    assert key(chat(session_id=" call-7\n")) == key(query="call-7")


def test_a_header_in_utf_8_is_the_id_that_json_carries() -> None:
    as_wsgi_has_it = "通话".encode().decode("latin-1")

    assert key(header=as_wsgi_has_it) == key(chat(session_id="通话"))


def test_a_header_that_is_no_utf_8_is_an_id_all_the_same() -> None:
    a, b = key(header="\xd5\xc5"), key(header="\xd5\xc6")

    assert a and b
    assert a != b


def test_a_query_whose_bytes_could_not_be_read_is_no_id() -> None:
    # two ids in GBK would both read like this
    assert key(query="\ufffd\ufffd") is None


def test_half_a_surrogate_is_an_id_like_any_other() -> None:
    assert key(query="\ud800") != key(query="\ud801")


def test_the_name_of_the_header_can_be_set() -> None:
    keys = SessionKeys("X-Call")

    assert keys.key_of("chat", "", chat(), Headers({"X-CALL": "a"}), MultiDict()) is not None
    assert key(header="a", keys=keys) is None


# a uid in a channel


def test_a_uid_is_a_session_only_inside_a_channel() -> None:
    keys = SessionKeys(channel_field="channel")
    request = chat(user("1002"), channel="room")

    assert key(request) is None
    assert key(chat(user("1002")), keys=keys) is None
    assert key(chat(channel="room"), keys=keys) is None
    assert key(request, keys=keys) is not None


def test_a_uid_in_another_channel_is_another_session() -> None:
    keys = SessionKeys(channel_field="channel")
    pairs = [("1", "a"), ("2", "a"), ("1", "b"), ("11", "a"), ("1", "a1"), ("1a", "1"), ("a", "11")]

    found = {key(chat(user(uid), channel=channel), keys=keys) for uid, channel in pairs}

    assert len(found) == len(pairs)
    assert None not in found


def test_a_blank_uid_or_channel_is_no_session() -> None:
    keys = SessionKeys(channel_field="channel")

    assert key(chat(user(" "), channel="a1"), keys=keys) is None
    assert key(chat(user("1a"), channel=""), keys=keys) is None


def test_a_uid_can_be_a_number_and_its_channel_in_params() -> None:
    keys = SessionKeys(channel_field="channel")

    assert key(chat(user(1002), params={"channel": "room"}), keys=keys) == key(
        chat(user("1002"), channel="room"), keys=keys
    )


def test_the_last_user_message_says_who_speaks() -> None:
    keys = SessionKeys(channel_field="channel")
    tool = {"role": "tool", "tool_call_id": "c", "content": "4"}

    assert key(chat(user("1"), user("2"), tool, channel="room"), keys=keys) == key(
        chat(user("2"), channel="room"), keys=keys
    )
    assert key(chat(user("1"), HELLO, channel="room"), keys=keys) is None


@pytest.mark.parametrize("metadata", [None, "1002", ["1002"], {"user": {"id": 1}}, {"user": None}, {}, 7], ids=str)
def test_metadata_in_any_form_that_names_nobody_is_no_session(metadata: Any) -> None:
    keys = SessionKeys(channel_field="channel")

    assert key(chat({**HELLO, "metadata": metadata}, channel="room"), keys=keys) is None


def test_an_id_goes_before_a_uid() -> None:
    keys = SessionKeys(channel_field="channel")

    assert key(chat(user("1002"), channel="room"), header="a", keys=keys) == key(header="a")


def test_an_id_that_looks_like_a_uid_is_another_session() -> None:
    keys = SessionKeys(channel_field="channel")
    as_uid = key(chat(user("2"), channel="r"), keys=keys)

    assert as_uid not in {key(query=name) for name in ("r2", "user:1:r2", "1:r2", "id:r2")}


@pytest.mark.parametrize("field", ["messages", "model", "stream", "params", "session_id"])
def test_what_is_needed_elsewhere_names_no_channel(field: str) -> None:
    with pytest.raises(ValueError, match=f"'{field}' can't name a channel"):
        SessionKeys(channel_field=field)


def test_the_fields_that_name_a_session_are_told_so_that_no_upstream_gets_them() -> None:
    keys = SessionKeys(channel_field="channel")
    data = json.dumps({"messages": [user("2")], "session_id": None, "channel": "r", "temperature": 0}).encode()

    request = read_request(data, keys.fields)

    assert set(request.body) == {"messages", "temperature"}
    assert key(request, keys=keys) == key(chat(user("2"), channel="r"), keys=keys)
    assert SessionKeys().fields == {"session_id"}


# what a key tells


def test_callers_with_different_keys_never_meet() -> None:
    # the last three are alike to an HMAC that is keyed with them
    shown = ["", "sk-1", "sk-2", "sk-1\0", "sk-1\0\0", "密钥"]

    assert len({key(query="a", shown=one) for one in shown}) == len(shown)


def test_endpoints_have_sessions_of_their_own() -> None:
    assert key(query="a", endpoint="chat") != key(query="a", endpoint="rag")
    assert key(query="b", endpoint="chat") != key(query="a", endpoint="chat")


def test_a_key_is_64_hexadecimal_digits_that_need_the_secret() -> None:
    plain, secret = key(query="a"), key(query="a", keys=SessionKeys(secret=b"s"))

    assert plain and secret
    assert len(plain) == len(secret) == 64
    assert int(plain, 16) != int(secret, 16)


# who ends whom


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (HELLO, BOTH),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a"}}]}, BOTH),
        ({"role": "user", "content": ""}, NEITHER),
        ({"role": "user", "content": " \n"}, NEITHER),
        ({"role": "user", "content": None}, NEITHER),
        ({"role": "user", "content": [{"type": "text", "text": " "}]}, NEITHER),
        ({"role": "tool", "tool_call_id": "c", "content": "4"}, ONLY_ENDED),
        ({"role": "function", "name": "add", "content": "4"}, ONLY_ENDED),
        ({"role": "assistant", "content": "Welcome."}, NEITHER),
        ({"role": "assistant", "content": "Wel", "prefix": True}, NEITHER),
        ({"role": "system", "content": "Greet."}, NEITHER),
        ({"role": "developer", "content": "Greet."}, NEITHER),
    ],
    ids=str,
)
def test_the_last_message_says_what_a_turn_may_do_to_others(last: dict[str, Any], expected: Standing) -> None:
    assert standing(chat(HELLO, last)) == expected


LASTS: dict[str, dict[str, Any]] = {
    "user": HELLO,
    "silence": {"role": "user", "content": ""},
    "tool": {"role": "tool", "tool_call_id": "c", "content": "4"},
    "assistant": {"role": "assistant", "content": "Welcome."},
    "system": {"role": "system", "content": "Greet."},
}


@pytest.mark.parametrize(("older", "newer"), list(product(LASTS, LASTS)))
def test_only_a_caller_who_speaks_ends_an_older_turn_and_only_one_that_answers_a_caller(older: str, newer: str) -> None:
    sessions = Sessions()
    first, second = NotedTurn(), NotedTurn()

    sessions.enter("s", first, *standing(chat(HELLO, LASTS[older])))
    sessions.enter("s", second, *standing(chat(HELLO, LASTS[newer])))

    assert bool(first.ended_at) == (newer == "user" and older in ("user", "tool"))
    assert not second.ended_at


def test_every_older_turn_of_the_session_is_ended_once() -> None:
    sessions = Sessions()
    turns = [NotedTurn() for _ in range(5)]

    sessions.enter("s", turns[0], *BOTH)
    for turn in turns[1:4]:
        sessions.enter("s", turn, *ONLY_ENDED)
    sessions.enter("s", turns[4], *BOTH)

    assert [len(turn.ended_at) for turn in turns] == [1, 1, 1, 1, 0]
    assert len(sessions) == 1


def test_another_session_is_left_alone() -> None:
    sessions = Sessions()
    mine, other = NotedTurn(), NotedTurn()

    sessions.enter("a", other, *BOTH)
    sessions.enter("b", mine, *BOTH)

    assert not other.ended_at


def test_a_turn_that_has_left_is_not_ended() -> None:
    sessions = Sessions()
    older = NotedTurn()

    sessions.enter("s", older, *BOTH)
    sessions.leave("s", older)
    sessions.leave("s", older)
    sessions.enter("s", NotedTurn(), *BOTH)

    assert not older.ended_at


def test_a_turn_that_was_ended_leaves_the_newer_one_where_it_is() -> None:
    sessions = Sessions()
    older, newer = NotedTurn(), NotedTurn()

    sessions.enter("s", older, *BOTH)
    sessions.enter("s", newer, *BOTH)
    sessions.leave("s", older)
    sessions.enter("s", NotedTurn(), *BOTH)

    assert len(newer.ended_at) == 1


def test_a_turn_can_enter_again() -> None:
    sessions = Sessions()
    turn = NotedTurn()

    sessions.enter("s", turn, *ONLY_ENDED)
    sessions.enter("s", turn, *ONLY_ENDED)

    assert len(sessions) == 1
    sessions.leave("s", turn)
    assert len(sessions) == 0


# what is kept


def test_nothing_is_kept_when_the_last_turn_has_left() -> None:
    sessions = Sessions()
    turns = [NotedTurn() for _ in range(100)]

    for number, turn in enumerate(turns):
        sessions.enter(f"s{number % 7}", turn, *ONLY_ENDED)
    assert (len(sessions), sessions._running.sessions) == (100, 7)
    for number, turn in enumerate(turns):
        sessions.leave(f"s{number % 7}", turn)

    assert (len(sessions), sessions._running.sessions) == (0, 0)


def test_of_too_many_turns_the_oldest_are_forgotten_and_run_on() -> None:
    sessions = Sessions(limit=3)
    turns = [NotedTurn() for _ in range(5)]

    for number, turn in enumerate(turns):
        sessions.enter(f"s{number}", turn, *BOTH)
    newer = [NotedTurn() for _ in turns]
    for number in reversed(range(5)):
        sessions.enter(f"s{number}", newer[number], *BOTH)

    assert [len(turn.ended_at) for turn in turns] == [0, 0, 1, 1, 1]
    assert len(sessions) == 3


def test_a_turn_is_forgotten_after_its_time() -> None:
    sessions = Sessions(expiry_s=0.02)
    old = NotedTurn()

    sessions.enter("s", old, *BOTH)
    time.sleep(0.03)
    sessions.enter("t", NotedTurn(), *BOTH)

    assert len(sessions) == 1
    sessions.enter("s", NotedTurn(), *BOTH)
    assert not old.ended_at


def test_a_turn_that_never_left_is_not_kept_alive() -> None:
    sessions = Sessions()
    gone: list[str] = []

    class Turn(NotedTurn):
        def __del__(self) -> None:
            gone.append("gone")

    sessions.enter("s", Turn(), *BOTH)
    gc.collect()

    assert gone == ["gone"]
    sessions.enter("s", NotedTurn(), *BOTH)
    assert len(sessions) == 1


def test_a_turn_costs_the_same_however_many_run() -> None:
    def cost(sessions: Sessions) -> float:
        turns = [NotedTurn() for _ in range(300)]
        began = time.perf_counter()
        for number, turn in enumerate(turns):
            sessions.enter(f"s{number}", turn, *BOTH)
        for number, turn in enumerate(turns):
            sessions.leave(f"s{number}", turn)
        return time.perf_counter() - began

    full = Sessions(limit=20_000)
    others = [NotedTurn() for _ in range(10_000)]
    for number, turn in enumerate(others):
        full.enter(f"o{number}", turn, *BOTH)

    few, many = min(cost(Sessions()) for _ in range(5)), min(cost(full) for _ in range(5))

    assert many < 10 * few


# many at once


def test_of_turns_that_enter_at_once_one_is_left_in_each_session() -> None:
    sessions = Sessions()
    at_once = threading.Barrier(8)
    turns: list[dict[str, NotedTurn]] = [{f"s{number}": NotedTurn() for number in range(100)} for _ in range(8)]

    def enter(mine: dict[str, NotedTurn]) -> None:
        at_once.wait()
        for session, turn in mine.items():
            sessions.enter(session, turn, *BOTH)

    threads = [threading.Thread(target=enter, args=(mine,)) for mine in turns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for session in turns[0]:
        assert sorted(len(mine[session].ended_at) for mine in turns) == [0, *[1] * 7]
    assert len(sessions) == 100


def test_a_turn_may_leave_while_it_is_being_ended() -> None:
    sessions = Sessions()

    class Leaves(NotedTurn):
        def supersede(self) -> None:
            super().supersede()
            sessions.leave("s", self)

    older, newer = Leaves(), NotedTurn()
    sessions.enter("s", older, *BOTH)
    sessions.enter("s", newer, *BOTH)

    assert len(older.ended_at) == 1
    assert len(sessions) == 1
