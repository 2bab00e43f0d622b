from collections.abc import Iterable
from itertools import combinations

import pytest
from cutting import cut, cut_everywhere
from hypothesis import example, given
from hypothesis import strategies as st
from limits import cpu_limit, memory_limit

from protocol.sse import EventDecoder, EventTooLong, frame

BOM = b"\xef\xbb\xbf"
LINE_ENDS = {"LF": b"\n", "CRLF": b"\r\n", "CR": b"\r"}
MIXED = (
    b': hello\ndata: {"a":"\xe2\x80\xa8\xc2\x85"}\n\nevent: ping\nid: 1\nretry: 5\ndata:b\ndata: c\n\ndata: [DONE]\n\n'
)
MIXED_EVENTS = [b'{"a":"\xe2\x80\xa8\xc2\x85"}', b"b c", b"[DONE]"]


def decoded(blocks: Iterable[bytes]) -> list[bytes]:
    """Return all events of a stream that comes in these blocks."""
    decoder = EventDecoder()
    events = [event for block in blocks for event in decoder.feed(block)]
    return events + decoder.end()


def by_the_specification(stream: bytes) -> list[bytes]:
    """Interpret a whole stream, step by step as the WHATWG's specification has it; an event without data is left out.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    The lines of an event's data are joined by a space, and a last event's empty line is supplied.
    """
    stream = stream[len(BOM) :] if stream.startswith(BOM) else stream
    lines, line = [], bytearray()
    for place, byte in enumerate(stream + b"\n\n"):
        if byte == 0x0A and place and stream[place - 1 : place] == b"\r":
            continue
        if byte in (0x0A, 0x0D):
            lines.append(bytes(line))
            line.clear()
        else:
            line.append(byte)
    events, buffer = [], b""
    for each in lines:
        if not each:
            events.append(b" ".join(part for part in buffer.split(b"\n") if part))
            buffer = b""
        elif each == b"data":
            buffer += b"\n"
        elif each.startswith(b"data:"):
            value = each[len(b"data:") :]
            buffer += (value[1:] if value.startswith(b" ") else value) + b"\n"
    return [event for event in events if event]


@pytest.mark.parametrize("end", LINE_ENDS.values(), ids=LINE_ENDS)
def test_a_stream_is_the_same_wherever_it_is_cut(end: bytes) -> None:
    stream = MIXED.replace(b"\n", end)

    for places in combinations(range(len(stream)), 2):
        assert decoded(cut(stream, *places)) == MIXED_EVENTS, places
    assert decoded(cut_everywhere(stream)) == MIXED_EVENTS


lines = st.tuples(
    st.sampled_from([b"", b"", b"data: a", b"data:b", b"data: [DONE]", b"data", b": c", b"event: e", b"id: 1"]),
    st.sampled_from([b"\n", b"\n", b"\r", b"\r\n"]),
).map(b"".join)
fragments = st.sampled_from(
    [b"data:", b"data: ", b"data", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"x", BOM, b"\xe2\x80\xa8", b"\xc2\x85"]
)


@given(
    stream=st.lists(lines | fragments | st.binary(max_size=3), max_size=14).map(b"".join),
    places=st.lists(st.integers(0, 60), max_size=5),
)
@example(stream=b"data: a\rdata: b\n\n", places=[8])
@example(stream=b"data: a\r\rdata: b\n\n", places=[8, 18])
def test_any_stream_is_read_as_the_specification_has_it(stream: bytes, places: list[int]) -> None:
    assert decoded(cut(stream, *places)) == by_the_specification(stream)


@pytest.mark.parametrize("places", [(), (1,), (2,), (3,), (1, 2), (1, 2, 3), (4,)])
@pytest.mark.parametrize("stream", [BOM + b"data: a\n\n", BOM + b": comment\n\ndata: a\n\n"])
def test_a_bom_is_skipped_wherever_it_is_cut(stream: bytes, places: tuple[int, ...]) -> None:
    assert decoded(cut(stream, *places)) == [b"a"]


def test_only_the_first_bom_is_skipped() -> None:
    assert decoded([BOM + BOM + b"data: a\n\ndata: b\n\n"]) == [b"b"]
    assert decoded([b"data: " + BOM + b"a\n\n"]) == [BOM + b"a"]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\v", "\f", "\x1c", "\0"])
def test_only_cr_and_lf_end_a_line(character: str) -> None:
    text = f"a{character}b".encode()

    assert decoded([b"data: " + text + b"\n\n"]) == [text]
    assert decoded([b"data:" + text + b"\r\n\r\n"]) == [text]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data:a\n\n", [b"a"]),
        (b"data:  a \n\n", [b" a "]),
        (b"data: a:b\n\n", [b"a:b"]),
        (b'data: {\ndata: "a":\ndata:1}\n\n', [b'{ "a": 1}']),
        (b"data: a\ndata:\ndata\ndata: b\n\n", [b"a b"]),
        (b"data: a\nevent: x\n: c\ndata: b\n\n", [b"a b"]),
        (b": ping\n\n: ping\n\ndata: a\n\n", [b"a"]),
        (b"event: ping\n\nid: 1\n\nretry: 1\n\ndata: a\n\n", [b"a"]),
        (b"event: ping\ndata: {}\n\n", [b"{}"]),
        (b"data:\n\ndata: \n\ndata\n\ndata: a\n\n", [b"a"]),
        (b"Data: a\n\ndata : b\n\n data: c\n\ndatas: d\n\n", []),
        (b"\n\n\ndata: a\n\n\n\ndata: b\n\n\n", [b"a", b"b"]),
        (b"data: a\n\ndata: b", [b"a", b"b"]),
        (b"data: a\n\ndata: b\n", [b"a", b"b"]),
        (b"data: a\n\ndata: b\r", [b"a", b"b"]),
        (b"data: a", [b"a"]),
        (b"data: a\r\n\rdata: b\n\r\n", [b"a", b"b"]),
        (b"data: a\rdata: b\n\n", [b"a b"]),
        (b"", []),
        (BOM[:2], []),
    ],
)
def test_fields_and_lines_are_read_as_real_upstreams_write_them(stream: bytes, events: list[bytes]) -> None:
    assert decoded([stream]) == events
    assert decoded(cut_everywhere(stream)) == events


def test_an_event_comes_out_with_its_last_byte_and_not_later() -> None:
    decoder = EventDecoder()

    assert [decoder.feed(bytes([byte])) for byte in b"data: a\n\n"] == [[]] * 8 + [[b"a"]]
    assert decoder.feed(b"data: b\r\n\r") == [b"b"]
    assert decoder.feed(b"\ndata: c\r\r") == [b"c"]
    assert [decoder.feed(block) for block in (b"data: d", b"\r", b"\r")] == [[], [], [b"d"]]
    assert decoder.end() == []


@pytest.mark.parametrize("stream", [b"data: a\r\ndata: b\r\n\r\n", BOM + b"data: a\ndata: b\n\n"])
def test_an_empty_block_changes_nothing(stream: bytes) -> None:
    blocks = [block for byte in stream for block in (bytes([byte]), b"")]

    assert decoded([b"", *blocks]) == [b"a b"]


@pytest.mark.parametrize("step", [7, 64, 5000])
@pytest.mark.parametrize("line", [b"data: " + b"x" * 90, b": comment", b"data: x\n", b"data: xy\r\n", b"event"])
def test_an_event_without_an_end_is_refused_at_the_limit(line: bytes, step: int) -> None:
    decoder = EventDecoder(limit=1000)
    stream = line * 5000 if line.endswith(b"\n") else line + b"x" * 50_000
    fed = 0

    with pytest.raises(EventTooLong):
        for place in range(0, len(stream), step):
            fed += step
            decoder.feed(stream[place : place + step])

    assert fed <= 1000 + step + len(line)


def test_an_event_within_the_limit_is_taken_in_any_blocks() -> None:
    stream = b"data: " + b"x" * 900 + b"\n\n"

    for step in (1, 7, 902, 2000):
        decoder = EventDecoder(limit=1000)
        events = [event for place in range(0, 908, step) for event in decoder.feed(stream[place : place + step])]
        assert events == [b"x" * 900]


def test_an_unfinished_line_may_be_as_long_as_the_limit() -> None:
    decoder = EventDecoder(limit=10)

    assert decoder.feed(b"data: xxxx") == []
    with pytest.raises(EventTooLong):
        decoder.feed(b"x")


def test_what_needs_no_memory_may_go_on_for_ever() -> None:
    decoder = EventDecoder(limit=100)

    for _ in range(1000):
        assert decoder.feed(b": keepalive\n\nevent: ping\nid: 7\n\ndata:\n\n") == []
    assert decoder.feed(b"data: a\n\n") == [b"a"]


@pytest.mark.parametrize("line", [b"data: " + b"x" * 16_000, b"data: xy\n" * 2000], ids=["one line", "short lines"])
def test_an_event_without_an_end_takes_little_more_memory_than_the_limit(line: bytes) -> None:
    decoder = EventDecoder(limit=1_000_000)

    with memory_limit(8_000_000), pytest.raises(EventTooLong):
        for _ in range(1000):
            decoder.feed(line)


@pytest.mark.parametrize("block", [b"x" * 4096, b"\ndata: xy" * 450], ids=["one line", "short lines"])
def test_an_event_in_many_blocks_costs_time_by_its_size(block: bytes) -> None:
    decoder = EventDecoder(limit=1 << 26)

    with cpu_limit(0.5):
        decoder.feed(b"data: ")
        for _ in range(400):
            decoder.feed(block)
        (event,) = decoder.feed(b"\n\n")

    assert len(event) > 400 * len(block) / 5


@given(st.lists(st.binary(min_size=1).filter(lambda data: not set(data) & set(b"\r\n")), min_size=1))
def test_what_is_framed_is_read_again(datas: list[bytes]) -> None:
    stream = frame(datas)

    assert decoded([stream]) == datas
    assert stream.count(b"\n") == 2 * len(datas)
