import gzip
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cutting import cut, cut_everywhere
from hypothesis import given
from hypothesis import strategies as st
from limits import cpu_limit, memory_limit

from upstream.http1 import HEAD_LIMIT, INFLATED_LIMIT, MalformedResponse, ResponseParser, request_head

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIPPED = gzip.compress(b"Hello, world! " * 20, mtime=0)
RAW_LENGTH = b"Content-Length: %d\r\n\r\n%s"


@dataclass
class Response:
    """A response on the wire, and what it says."""

    wire: bytes
    body: bytes = b"Hello, world!"
    status: int = 200
    reusable: bool = True
    closes: bool = False
    headers: dict[str, str] = field(default_factory=dict)


def chunked(*chunks: bytes, last: bytes = b"0\r\n\r\n") -> bytes:
    """Write a chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + last


RESPONSES = {
    "length": Response(OK + b"Content-Length: 13\r\n\r\nHello, world!", headers={"content-length": "13"}),
    "no body": Response(OK + b"Content-Length: 0\r\n\r\n", b""),
    "the same length twice": Response(OK + b"Content-Length: 13\r\nContent-Length:13\r\n\r\nHello, world!"),
    "chunked": Response(CHUNKED + chunked(b"Hello,", b" ", b"world!")),
    "chunked without a chunk": Response(CHUNKED + chunked(), b""),
    "chunks that look like framing": Response(CHUNKED + chunked(b"\r\n0\r\n\r\n", b"5\r\n"), b"\r\n0\r\n\r\n5\r\n"),
    "chunk extensions": Response(CHUNKED + b'6;a=b\r\nHello,\r\n7 ; c="d";e\r\n world!\r\n0;f\r\n\r\n'),
    "chunk sizes with zeros": Response(CHUNKED + b"00006\r\nHello,\r\n07\r\n world!\r\n000\r\n\r\n"),
    "upper-case chunk sizes": Response(CHUNKED + b"0D\r\nHello, world!\r\n0\r\n\r\n"),
    "trailers": Response(CHUNKED + chunked(b"Hello, world!", last=b"0\r\nX-Sum: 1\r\nX-Other: \r\n\r\n")),
    "until the peer closes": Response(OK + b"\r\nHello, world!", closes=True, reusable=False),
    "until the peer closes, nothing": Response(OK + b"\r\n", b"", closes=True, reusable=False),
    "gzip": Response(OK + b"Content-Encoding: gzip\r\n" + RAW_LENGTH % (len(GZIPPED), GZIPPED), b"Hello, world! " * 20),
    "gzip in chunks": Response(
        OK + b"Content-Encoding: x-gzip\r\nTransfer-Encoding: Chunked\r\n\r\n" + chunked(GZIPPED[:9], GZIPPED[9:]),
        b"Hello, world! " * 20,
    ),
    "deflate": Response(
        OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(b"Hello"), b"Hello", closes=True, reusable=False
    ),
    "interim responses": Response(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 5\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\nHi",
        b"Hi",
        headers={"content-length": "2"},
    ),
    "204": Response(b"HTTP/1.1 204 No Content\r\n\r\n", b"", 204),
    "204 with a framing": Response(b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", b"", 204),
    "304 with a length": Response(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 13\r\n\r\n", b"", 304),
    "no reason": Response(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nHi", b"Hi"),
    "HTTP/1.0": Response(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nHi", b"Hi", reusable=False),
    "HTTP/1.0 that is kept": Response(
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nHi", b"Hi"
    ),
    "a connection to be closed": Response(
        OK + b"CONNECTION: foo, Close\r\nContent-Length: 2\r\n\r\nHi", b"Hi", reusable=False
    ),
    "both framings": Response(
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"Hello, world!"), reusable=False
    ),
    "headers of all kinds": Response(
        b"HTTP/1.1 429 Too Many\r\nX-A:\t 1 \t\r\nx-a:  2\r\nX-Empty:\r\nX-Latin: \xe9\r\n"
        b"X!#$%&'*+-.^_`|~9: a  b: c\r\nContent-Length: 0\r\n\r\n",
        b"",
        429,
        headers={"x-a": "1, 2", "x-empty": "", "x-latin": "é", "x!#$%&'*+-.^_`|~9": "a  b: c", "content-length": "0"},
    ),
}


def parsed(blocks: Iterable[bytes], closes: bool = False) -> tuple[ResponseParser, bytes]:
    """Parse a response that comes in these blocks, and return its body beside the parser."""
    parser = ResponseParser()
    body = b"".join([parser.feed(block) for block in blocks])
    if closes:
        parser.eof()
    return parser, body


@pytest.mark.parametrize("expected", RESPONSES.values(), ids=RESPONSES)
def test_a_response_is_the_same_wherever_it_is_cut(expected: Response) -> None:
    wire = expected.wire
    cuts = [[wire], cut_everywhere(wire)]
    cuts += [cut(wire, place) for place in range(1, len(wire))]
    cuts += [cut(wire, place, place + 1) for place in range(1, len(wire))]

    for blocks in cuts:
        parser, body = parsed(blocks, expected.closes)

        assert (parser.has_head, parser.complete, parser.status) == (True, True, expected.status), blocks
        assert body == expected.body, blocks
        assert parser.reusable is expected.reusable, blocks
        assert expected.headers in ({}, parser.headers), blocks


def test_a_body_comes_out_as_it_comes_in() -> None:
    parser = ResponseParser()

    assert [parser.feed(block) for block in (CHUNKED, b"5\r\nHe", b"llo", b"\r\n2\r\n!!\r\n")] == [
        b"",
        b"He",
        b"llo",
        b"!!",
    ]
    assert not parser.complete
    assert parser.feed(b"0\r\n\r\n") == b""
    assert parser.complete


@pytest.mark.parametrize(
    ("before", "brings"),
    [(b"9\r\nx", b"2\r\nHi\r\n"), (b"7\r\n", b"2\r\nHi\r\n"), (b"0\r\n", b""), (b"1", b"Hi\r\n")],
    ids=["in a chunk", "a whole chunk's data", "in the trailer", "in a size"],
)
def test_bytes_that_look_like_a_chunk_are_one_only_in_its_place(before: bytes, brings: bytes) -> None:
    parser, _ = parsed([CHUNKED + before])

    assert parser.feed(b"2\r\nHi\r\n") == brings
    assert not parser.complete


@pytest.mark.parametrize(
    "wire",
    [
        OK + b"Content-Length: 2\r\n\r\nHi",
        OK + b"Content-Length: 0\r\n\r\n",
        CHUNKED + chunked(b"Hi"),
        CHUNKED + chunked(b"Hi", last=b"0\r\nX: y\r\n\r\n"),
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
def test_a_connection_with_bytes_after_the_end_is_not_used_again(wire: bytes) -> None:
    whole, body = parsed([wire + b"HTTP/1.1 200 OK\r\n"])
    later, _ = parsed([wire, b"H"])

    assert body in (b"Hi", b"")
    assert (whole.complete, whole.reusable) == (True, False)
    assert (later.complete, later.reusable) == (True, False)


REFUSED = {
    "no HTTP": b"<html><body>Hello</body></html>\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "a short status": b"HTTP/1.1 20 OK\r\n\r\n",
    "a long status": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a status of 0": b"HTTP/1.1 099 OK\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\n\r\n",
    "an empty line first": b"\r\n" + OK + b"\r\n",
    "a switch of protocols": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "a header without a colon": OK + b"Nothing\r\n\r\n",
    "a header without a name": OK + b": value\r\n\r\n",
    "a space before the colon": OK + b"X-A : value\r\n\r\n",
    "a folded header": OK + b"X-A: one\r\n two\r\n\r\n",
    "a tab before a header": OK + b"\tX-A: one\r\n\r\n",
    "a bare LF in a header": OK + b"X-A: one\nX-B: two\r\n\r\n",
    "a bare CR in a header": OK + b"X-A: one\rX-B: two\r\n\r\n",
    "NUL in a header": OK + b"X-A: o\0ne\r\n\r\n",
    "a bare LF in the status line": b"HTTP/1.1 200 OK\nX-A: one\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "two lengths in one": OK + b"Content-Length: 5, 6\r\n\r\n",
    **{
        f"a length of {length!r}": OK + b"Content-Length: " + length + b"\r\n\r\n"
        for length in (b"-1", b"+5", b"0x10", b"1e3", b"5 5", b"", b"9" * 16, b"5;a", b"\xb2", b"1_0")
    },
    **{
        f"an encoding of {encoding!r}": OK + b"Transfer-Encoding: " + encoding + b"\r\n\r\n"
        for encoding in (b"gzip, chunked", b"chunked, chunked", b"identity", b"xchunked", b"chunked;a")
    },
    "two encodings": OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a coding nobody asked for": OK + b"Content-Encoding: br\r\n\r\n",
    "two codings": OK + b"Content-Encoding: gzip, gzip\r\n\r\n",
    **{
        f"a chunk size of {size!r}": CHUNKED + size + b"\r\nHello\r\n"
        for size in (b"-5", b"+5", b"0x5", b"", b" 5", b"5 5", b"G", b"1" * 9, b"5\0", b"5 =", b"5;" + b"a" * 1025)
    },
    "a bare LF after a chunk size": CHUNKED + b"5\nHello\r\n",
    "a bare LF after a chunk": CHUNKED + b"5\r\nHello\n0\r\n\r\n",
    "a bare LF in a chunk extension": CHUNKED + b"5;a\nb\r\nHello\r\n",
    "a chunk longer than its size": CHUNKED + b"5\r\nHello!\r\n",
    "a chunk that ends with a bare CR": CHUNKED + b"5\r\nHello\rx",
    "a chunk without a size after another": CHUNKED + chunked(b"Hello", last=b"\r\n"),
    "a chunk size without an end": CHUNKED + b"5;" + b"a" * 1200,
    "damaged gzip": OK + b"Content-Encoding: gzip\r\n\r\nHello",
    "gzip with a wrong checksum": OK + b"Content-Encoding: gzip\r\n\r\n" + GZIPPED[:-8] + b"\0" * 8,
}


@pytest.mark.parametrize("wire", REFUSED.values(), ids=REFUSED)
def test_what_is_no_response_is_refused_at_once(wire: bytes) -> None:
    with pytest.raises(MalformedResponse):
        parsed([wire])
    with pytest.raises(MalformedResponse):
        parsed(cut_everywhere(wire))


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"HTTP/1.1 200 O",
        OK + b"Content-Length: 5\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        OK + b"Content-Length: 5\r\n\r\n",
        OK + b"Content-Length: 5\r\n\r\nHell",
        CHUNKED,
        CHUNKED + b"5",
        CHUNKED + b"5\r\nHell",
        CHUNKED + b"5\r\nHello",
        CHUNKED + b"5\r\nHello\r",
        CHUNKED + b"5\r\nHello\r\n",
        CHUNKED + b"5\r\nHello\r\n0\r\n",
        CHUNKED + b"5\r\nHello\r\n0\r\nX-Sum: 1\r\n",
        CHUNKED + b"ffffffff\r\nHello",
    ],
)
def test_a_response_that_is_cut_is_refused_when_the_peer_closes(wire: bytes) -> None:
    parser, _ = parsed([wire])

    assert not parser.complete
    with pytest.raises(MalformedResponse):
        parser.eof()


def test_a_peer_may_close_after_the_end() -> None:
    parser, body = parsed([OK + b"Content-Length: 2\r\n\r\nHi"], closes=True)

    assert body == b"Hi"
    assert (parser.complete, parser.reusable) == (True, False)


@pytest.mark.parametrize(
    ("start", "block", "limit"),
    [
        (b"", b"H" * 1024, HEAD_LIMIT),
        (OK, b"X-A: b\r\n" * 128, HEAD_LIMIT),
        (OK + b"X-A: ", b"b" * 1024, HEAD_LIMIT),
        (CHUNKED, b"5" * 64, 2048),
        (CHUNKED + b"5;", b"a" * 64, 2048),
        (CHUNKED + b"0\r\n", b"X-A: b\r\n" * 128, 32 * 1024),
        (CHUNKED + b"0\r\nX-A: ", b"b" * 1024, 32 * 1024),
    ],
    ids=["status line", "headers", "header", "chunk size", "chunk extension", "trailers", "trailer"],
)
def test_what_has_no_end_is_refused_before_it_takes_memory(start: bytes, block: bytes, limit: int) -> None:
    parser = ResponseParser()
    parser.feed(start or b"H")
    fed = 0

    with pytest.raises(MalformedResponse):
        while fed < 10_000_000:
            fed += len(block)
            parser.feed(block)

    assert fed <= limit + len(block)


def test_a_head_over_the_limit_is_refused_though_it_comes_in_one_piece() -> None:
    with pytest.raises(MalformedResponse):
        parsed([OK + b"X-A: " + b"b" * HEAD_LIMIT + b"\r\n\r\n"])


@pytest.mark.parametrize("size", [INFLATED_LIMIT + 1, INFLATED_LIMIT * 4])
def test_a_gzip_bomb_is_refused_before_it_takes_memory(size: int) -> None:
    bomb = gzip.compress(bytes(size))

    with memory_limit(INFLATED_LIMIT * 5 // 2), pytest.raises(MalformedResponse):
        parsed([OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb), bomb])


@pytest.mark.parametrize(
    "wire",
    [
        OK + b"X-A: b" + b" " * 60_000 + b"b\r\n\r\n",
        OK + b"X-A: " + b" \t" * 30_000 + b"\r\n\r\n",
        OK + b"X-A: b\r\n" * 8000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 2000 + OK + b"\r\n",
        CHUNKED + chunked(*[b"a"] * 50_000),
    ],
    ids=["inner spaces", "spaces", "headers", "interim responses", "chunks of a byte"],
)
def test_bytes_cost_time_by_their_number(wire: bytes) -> None:
    with cpu_limit(0.5):
        parser, _ = parsed([wire])

    assert parser.status == 200


bodies = st.lists(st.binary(min_size=1, max_size=20), max_size=5)
names = st.text("abcdefghijklmnop-", min_size=1, max_size=8).map(lambda name: "x-" + name)
values = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f\x85\xa0"), max_size=9)


@given(
    status=st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    headers=st.dictionaries(names, values, max_size=4),
    chunks=bodies,
    framing=st.sampled_from(["chunked", "length", "close"]),
    coding=st.sampled_from(["", "gzip", "deflate"]),
    extension=st.sampled_from([b"", b";a", b' ; a="b"']),
    trailer=st.sampled_from([b"", b"X: y\r\n", b"X: y\r\nZ:\r\n"]),
    places=st.lists(st.integers(0, 400), max_size=6),
)
def test_what_is_written_is_read_again(
    status: int,
    headers: dict[str, str],
    chunks: list[bytes],
    framing: str,
    coding: str,
    extension: bytes,
    trailer: bytes,
    places: list[int],
) -> None:
    body = b"".join(chunks)
    encoded = {"": body, "gzip": gzip.compress(body), "deflate": zlib.compress(body)}[coding]
    sent = [encoded] if coding else chunks
    written = dict(headers)
    if coding:
        written["content-encoding"] = coding
    if framing == "chunked":
        written["transfer-encoding"] = "chunked"
        wire = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in sent)
        wire += b"0" + extension + b"\r\n" + trailer + b"\r\n"
    else:
        wire = b"".join(sent)
    if framing == "length":
        written["content-length"] = str(len(wire))
    head = "".join(f"{name.title()}: {value}\r\n" for name, value in written.items())
    wire = f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode("latin-1") + wire

    parser, read = parsed(cut(wire, *places), closes=framing == "close")

    assert (parser.status, parser.reason, parser.headers) == (status, "Said", written)
    assert read == body
    assert (parser.complete, parser.reusable) == (True, framing != "close")


PIECES = [
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Go\r\n", b"HTTP/1.0 404 \r\n", b"HTTP/1.1 204 N\r\n", b"\r\n", b"\r"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"X: y\r\n", b" ", b"A"),
    *(
        b"Connection: close\r\n",
        b"5\r\n",
        b"Hello",
        b"0\r\n",
        b"00\r\n\r\n",
        b"5;a\r\nHello\r\n",
        b"\0",
        b"-1\r\n",
        b"\n",
    ),
]


@given(
    pieces=st.one_of(
        st.lists(st.sampled_from(PIECES), max_size=9).map(lambda rest: [OK, *rest]),
        st.lists(st.sampled_from(PIECES), max_size=9).map(lambda rest: [CHUNKED, *rest]),
        st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)), max_size=9),
    ),
    places=st.lists(st.integers(1, 120), max_size=4),
)
def test_any_bytes_mean_the_same_wherever_they_are_cut(pieces: list[bytes], places: list[int]) -> None:
    def meaning(blocks: Iterable[bytes]) -> Any:
        try:
            parser, body = parsed(blocks, closes=True)
        except MalformedResponse:
            return "malformed"
        return parser.status, parser.headers, body

    wire = b"".join(pieces)

    assert meaning(cut(wire, *places)) == meaning([wire])
    assert meaning(cut_everywhere(wire)) == meaning([wire])


def test_a_request_head_is_written_line_by_line() -> None:
    head = request_head("POST", "/v1/chat?a=b", {"Host": "llm.example", "X-Latin": "é"})

    assert head == b"POST /v1/chat?a=b HTTP/1.1\r\nHost: llm.example\r\nX-Latin: \xe9\r\n\r\n"


@pytest.mark.parametrize("breaker", ["\r", "\n", "\r\n", "a\r\nX-Evil: 1", "ключ"])
@pytest.mark.parametrize("place", ["target", "name", "value"])
def test_a_request_head_keeps_its_lines(breaker: str, place: str) -> None:
    target = breaker if place == "target" else "/"
    headers = {breaker if place == "name" else "X-A": breaker if place == "value" else "b"}

    with pytest.raises(ValueError):
        request_head("GET", target, headers)
