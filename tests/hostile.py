"""What hostile and unlucky peers send, by class, and the status that each gets."""

import json
from dataclasses import dataclass

from running_server import HELLO, KEY

CLOSED = 0
"""For a status: the connection is closed without an answer."""
TURN = json.dumps({"model": "m", "messages": HELLO}).encode()
SECOND = b"GET /smuggled HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
"""A request that nobody may take for one of its own."""


@dataclass(frozen=True)
class Case:
    """Bytes as a peer sends them, the status that they get, and whether the peer then ends its half."""

    sent: bytes
    status: int = 400
    half_closes: bool = False


def get(target: str | bytes = "/health", *lines: str | bytes, version: str = "HTTP/1.1") -> bytes:
    """Write a request without a body."""
    return head("GET", target, *lines, version=version)


def head(method: str, target: str | bytes, *lines: str | bytes, version: str = "HTTP/1.1") -> bytes:
    """Write the head of a request with our key, which asks for the connection to be closed."""
    first = method.encode("latin-1") + b" " + _bytes(target) + b" " + version.encode("latin-1")
    ours = ["Connection: close", "Host: h", f"Authorization: Bearer {KEY}"]
    return b"\r\n".join([first, *map(_bytes, ours), *map(_bytes, lines), b"", b""])


def post(*lines: str | bytes, body: bytes = b"", version: str = "HTTP/1.1") -> bytes:
    """Write a turn with these lines about its body."""
    return head("POST", "/chat/completions", "Content-Type: application/json", *lines, version=version) + body


def said(body: bytes) -> bytes:
    """Write a turn with this body and its right length."""
    return post(f"Content-Length: {len(body)}", body=body)


def chunked(body: bytes) -> bytes:
    """Write a turn with this body as it stands, which is to be chunks."""
    return post("Transfer-Encoding: chunked", body=body)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _message(content: bytes) -> bytes:
    return b'{"model":"m","messages":[{"role":"user","content":' + content + b"}]}"


SIZE = b"%x" % len(TURN)
CHUNK = SIZE + b"\r\n" + TURN + b"\r\n"
LAST = b"0\r\n\r\n"
LENGTH = f"Content-Length: {len(TURN)}"

REQUEST_LINES = {
    "HTTP/0.9": Case(b"GET /health\r\n"),
    "the preface of HTTP/2": Case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "TLS": Case(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32))),
    "SSH": Case(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "zeros": Case(b"\x00" * 100),
    "the PROXY protocol": Case(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get()),
    "the PROXY protocol, version 2": Case(b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + b"\x01" * 12 + get()),
    "HTTP/2.0": Case(get(version="HTTP/2.0")),
    "HTTP/0.9 by name": Case(get(version="HTTP/0.9")),
    "HTTP/1.10": Case(get(version="HTTP/1.10")),
    "HTTP/1.": Case(get(version="HTTP/1.")),
    "http/1.1": Case(get(version="http/1.1")),
    "HTTP/-1.1": Case(get(version="HTTP/-1.1")),
    "HTTP /1.1": Case(get(version="HTTP /1.1")),
    "another protocol": Case(get(version="ICY/1.1")),
    "a space behind it": Case(get(version="HTTP/1.1 ")),
    "no version": Case(get(version="")),
    "two spaces": Case(b"GET  /health HTTP/1.1\r\nHost: h\r\n\r\n"),
    "tabs": Case(b"GET\t/health\tHTTP/1.1\r\nHost: h\r\n\r\n"),
    "a space before it": Case(b" GET /health HTTP/1.1\r\nHost: h\r\n\r\n"),
    "bare LF": Case(b"GET /health HTTP/1.1\nHost: h\n\n"),
    "bare CR": Case(b"GET /health HTTP/1.1\rHost: h\r\r\n\r\n"),
    "two CR": Case(b"GET /health HTTP/1.1\r\r\nHost: h\r\n\r\n"),
    "two empty lines before it": Case(b"\r\n\r\n" + get()),
    "no method": Case(b" /health HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a method in lower case": Case(head("get", "/health")),
    "a method of no token": Case(head("GET(", "/health")),
    "a method beyond ASCII": Case(head("GÊT", "/health")),
    "a method that is too long": Case(head("G" * 40, "/health")),
    "a method that nobody knows": Case(head("BREW", "/health"), 405),
    "TRACE": Case(head("TRACE", "/health"), 405),
    "a line without an end": Case(b"GET /" + b"a" * 20_000, 414),
}

TARGETS = {
    "none": Case(b"GET HTTP/1.1\r\nHost: h\r\n\r\n"),
    "of CONNECT": Case(head("CONNECT", "evil.example:443"), 404),
    "a host and port, not of CONNECT": Case(get("evil.example:80")),
    "a star, not of OPTIONS": Case(get("*")),
    "a star": Case(head("OPTIONS", "*"), 404),
    "no slash": Case(get("health")),
    "a URL of another host": Case(get("http://evil.example/nowhere"), 404),
    "a URL without a path": Case(head("BREW", "http://evil.example"), 405),
    "a URL with a broken host": Case(get("http://[::1/health")),
    "a URL without a scheme": Case(get("://evil.example/nowhere"), 404),
    "two slashes": Case(get("//evil.example/nowhere"), 404),
    "a fragment": Case(get("/nowhere#/health"), 404),
    "up and out": Case(get("/../../../etc/passwd"), 404),
    "up and out, encoded": Case(get("/%2e%2e/%2e%2e/etc/passwd"), 404),
    "an encoded slash": Case(get("/chat%2fcompletions%2f..%2f..%2fetc"), 404),
    "backslashes": Case(get("/..\\..\\etc\\passwd"), 404),
    "an encoded NUL": Case(get("/nowhere%00"), 404),
    "NUL": Case(get(b"/health\x00")),
    "a control character": Case(get(b"/health\x1b[2J")),
    "DEL": Case(get(b"/health\x7f")),
    "raw UTF-8": Case(get("/é".encode())),
    "invalid UTF-8": Case(get(b"/\xff\xfe")),
    "invalid UTF-8, encoded": Case(get("/%ff%fe%c0%af"), 404),
    "a half percent": Case(get("/%"), 404),
    "no hex": Case(get("/%zz%u0041"), 404),
    "invalid UTF-8 in the query": Case(get(b"/nowhere?a=\xff")),
    "invalid UTF-8 in the query, encoded": Case(get("/nowhere?%ff=%fe&%c0%af"), 404),
    "a template": Case(get("/{{7*7}}/${7*7}/%7B%7B7*7%7D%7D"), 404),
    "a path that a header names": Case(get("/x/nowhere", "SCRIPT_NAME: /x", "PATH_INFO: /health"), 404),
}

HEADERS = {
    "none, not even Host": Case(b"GET /health HTTP/1.1\r\n\r\n"),
    "two Hosts": Case(get("/health", "Host: evil.example")),
    "two types": Case(post("Content-Type: text/plain", LENGTH, body=TURN)),
    "a space before the colon": Case(get("/health", "X-A : 1")),
    "a tab before the colon": Case(get("/health", "X-A\t: 1")),
    "a space before the colon of a length": Case(post(f"Content-Length : {len(TURN)}", body=SECOND)),
    "a folded line": Case(get("/health", "X-A: 1\r\n 2")),
    "a folded first line": Case(b"GET /health HTTP/1.1\r\n Host: h\r\n\r\n"),
    "a folded coding": Case(post("Transfer-Encoding:\r\n chunked", body=CHUNK + LAST)),
    "no colon": Case(get("/health", "X-A")),
    "no name": Case(get("/health", ": 1")),
    "a name with a space": Case(get("/health", "X A: 1")),
    "a name beyond ASCII": Case(get("/health", "X-é: 1")),
    "a name with NUL": Case(get("/health", "X-\x00: 1")),
    "a name with brackets": Case(get("/health", "X[A]: 1")),
    "NUL": Case(get("/health", "X-A: \x00")),
    "a terminal's orders": Case(get("/health", "X-A: \x1b[2J")),
    "DEL": Case(get("/health", "X-A: \x7f")),
    "bare CR": Case(get("/health", "X-A: 1\rX-B: 2")),
    "bare LF": Case(get("/health", "X-A: 1\nX-B: 2")),
    "bare LF that ends the head": Case(b"GET /health HTTP/1.1\r\nHost: h\r\n\nX: 1\r\n\r\n"),
    "another expectation": Case(post("Expect: 200-ok", LENGTH, body=TURN), 417),
    "two schemes": Case(get("/health", "X-Forwarded-Proto: https", "X-Forwarded-Ssl: off")),
    "a key in invalid UTF-8": Case(
        b"GET /models HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer \xff\xfe\r\n\r\n", 401
    ),
    "a key without an end": Case(
        b"GET /models HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer " + b"a" * 8000 + b"\r\n\r\n",
        401,
    ),
    "two keys": Case(get("/models", "Authorization: Bearer other"), 401),
    "a key by an underscore": Case(
        f"GET /models HTTP/1.1\r\nHost: h\r\nConnection: close\r\nHTTP_AUTHORIZATION: Bearer {KEY}\r\n\r\n".encode(),
        401,
    ),
    "a type in invalid UTF-8": Case(head("POST", "/chat/completions", b"Content-Type: \xff", LENGTH) + TURN, 415),
    "another type": Case(head("POST", "/chat/completions", "Content-Type: application/xml", LENGTH) + TURN, 415),
    "a form": Case(
        head("POST", "/chat/completions", "Content-Type: multipart/form-data; boundary=a", LENGTH) + TURN, 415
    ),
    **{
        f"Host: {host}": Case(
            f"GET /nowhere HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\r\n".encode(
                "latin-1"
            ),
            404,
        )
        for host in ("", "[", "a b", "ÿþ", "h:99999", "h:-1", "@", "a/b")
    },
    "an endless Host": Case(get("/nowhere").replace(b"Host: h", b"Host: " + b"h" * 8000)),
}

# bodies whose end two servers could see in different places; what is behind them must never be served
FRAMINGS = {
    "a length and chunks": Case(post(LENGTH, "Transfer-Encoding: chunked", body=CHUNK + LAST + SECOND)),
    "chunks and a length": Case(post("Transfer-Encoding: chunked", "Content-Length: 4", body=CHUNK + LAST + SECOND)),
    "a length of 0 and chunks": Case(post("Content-Length: 0", "Transfer-Encoding: chunked", body=LAST + SECOND)),
    "two lengths": Case(post("Content-Length: 0", LENGTH, body=TURN + SECOND)),
    "the same length twice": Case(post(LENGTH, LENGTH, body=TURN + SECOND)),
    **{
        f"length {length!r}": Case(post(f"Content-Length: {length}", body=TURN + SECOND))
        for length in (
            f"+{len(TURN)}",
            f"-{len(TURN)}",
            f"0x{len(TURN):x}",
            f"{len(TURN)}, {len(TURN)}",
            "",
            "ten",
            f"{len(TURN)}.0",
            "1e2",
            "1_0",
            "1 0",
            "²",
            f"{len(TURN)};a",
            '"9"',
            "9" * 5000,
        )
    },
    **{
        f"coding {coding!r}": Case(post(f"Transfer-Encoding: {coding}", body=CHUNK + LAST + SECOND), status)
        for coding, status in {
            "xchunked": 501,
            "chunked-x": 501,
            "chunked;q=1": 501,
            '"chunked"': 501,
            "[chunked]": 501,
            "chunke": 501,
            "\x0bchunked": 400,
            "chunked\x00": 400,
            "": 501,
            ",": 501,
            "chunked,": 501,
            ", chunked": 501,
            "identity": 400,
            "gzip": 400,
            "chunked, chunked": 400,
            "chunked, identity": 400,
            "chunked, gzip": 400,
            "identity; chunked": 501,
            "x\x85chunked": 501,
        }.items()
    },
    "two codings": Case(post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=CHUNK + LAST + SECOND)),
    "two codings, one unknown": Case(
        post("Transfer-Encoding: chunked", "Transfer-Encoding: cow", body=CHUNK + LAST + SECOND), 501
    ),
    "chunks in HTTP/1.0": Case(post("Transfer-Encoding: chunked", body=CHUNK + LAST + SECOND, version="HTTP/1.0")),
    "an odd coding and a length": Case(post("Transfer-Encoding: xchunked", LENGTH, body=TURN + SECOND), 501),
    "a coding by an underscore": Case(post("Transfer_Encoding: chunked", body=CHUNK + LAST + SECOND)),
    "a length by an underscore": Case(post("Content_Length: 5", body=TURN + SECOND)),
    "a body of GET": Case(
        b"GET /nowhere HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
        b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s" % (KEY.encode(), len(SECOND), SECOND),
        404,
    ),
    "a body that is not wanted": Case(head("POST", "/models", "Content-Length: 100000") + SECOND * 1000, 405),
}

CHUNKS = {
    **{
        f"size {size!r}": Case(chunked(size + b"\r\n" + TURN + b"\r\n" + LAST + SECOND))
        for size in (
            b"-1",
            b"+" + SIZE,
            b"0x" + SIZE,
            b" " + SIZE,
            SIZE + b" ",
            b"",
            b"z",
            b"1_0",
            SIZE + b"\x00",
            b"\t" + SIZE,
            b"\xb2",
            b"-0",
            SIZE + b",1",
        )
    },
    "a size that is too large": Case(chunked(b"f" * 16 + b"\r\n" + TURN), 408),
    "a size without an end": Case(chunked(b"1" * 20_000 + b"\r\n")),
    "a size with leading zeros without an end": Case(chunked(b"0" * 20_000)),
    "too small a size": Case(chunked(b"5\r\n" + TURN + b"\r\n" + LAST + SECOND)),
    "too large a size": Case(chunked(b"%x\r\n" % (len(TURN) + 1) + TURN + b"\r\n" + LAST + SECOND)),
    "no end of a chunk": Case(chunked(SIZE + b"\r\n" + TURN + LAST + SECOND)),
    "another end of a chunk": Case(chunked(SIZE + b"\r\n" + TURN + b"XX" + LAST + SECOND)),
    "bare LF behind a size": Case(chunked(SIZE + b"\n" + TURN + b"\r\n" + LAST + SECOND)),
    "bare LF behind a chunk": Case(chunked(SIZE + b"\r\n" + TURN + b"\n" + LAST + SECOND)),
    "bare CR in an extension": Case(chunked(SIZE + b";a\rb\r\n" + TURN + b"\r\n" + LAST + SECOND)),
    "bare LF in an extension": Case(chunked(SIZE + b";a\nb\r\n" + TURN + b"\r\n" + LAST + SECOND)),
    "NUL in an extension": Case(chunked(SIZE + b";a\x00\r\n" + TURN + b"\r\n" + LAST + SECOND)),
    "an extension without an end": Case(chunked(SIZE + b";a=" + b"b" * 20_000)),
    "an extension without a name": Case(chunked(SIZE + b";=1\r\n" + TURN + b"\r\n" + LAST + SECOND)),
    **{
        f"a trailer {name}": Case(chunked(CHUNK + b"0\r\n" + name.encode() + b": 5\r\n\r\n" + SECOND))
        for name in ("Content-Length", "Transfer-Encoding", "Host", "Authorization", "X A")
    },
    "a folded trailer": Case(chunked(CHUNK + b"0\r\nX-A: 1\r\n 2\r\n\r\n" + SECOND)),
    "trailers without an end": Case(chunked(CHUNK + b"0\r\n" + b"X-A: 1\r\n" * 200_000)),
    "bare LF behind the last": Case(chunked(CHUNK + b"0\n\n" + SECOND)),
}

TOO_MUCH = {
    "a line of 9,000 bytes": Case(get("/health?" + "a" * 9000), 414),
    "a header of 9,000 bytes": Case(get("/health", "X-A: " + "a" * 9000), 431),
    "a header of 64 KB": Case(get("/health", "X-A: " + "a" * 65_536), 431),
    "a header of 10 MB": Case(get("/health", "X-A: " + "a" * 10_000_000), 431),
    "101 headers": Case(get("/health", *(["X-A: 1"] * 101)), 431),
    "10,000 headers": Case(get("/health", *(f"X-{number}: 1" for number in range(10_000))), 431),
    "a million headers": Case(get("/health", *(["X: 1"] * 1_000_000)), 431),
    "a body of 100 MB": Case(post("Content-Length: 104857600", body=b" " * 5_000_000), 413),
    "a body of 100 MB that waits for leave": Case(post("Content-Length: 104857600", "Expect: 100-continue"), 413),
    "a body of a length beyond 64 bits": Case(post("Content-Length: " + "9" * 30, body=TURN), 413),
    "chunks beyond the limit": Case(chunked((b"100000\r\n" + b" " * 0x100000 + b"\r\n") * 11 + LAST), 413),
}

JSON = {
    "nothing": Case(said(b"")),
    "no length at all": Case(post()),
    "65 levels": Case(said(b'{"messages":' + b"[" * 65 + b"]" * 65 + b"}")),
    "a million levels": Case(said(b"[" * 1_000_000)),
    "a million levels of objects": Case(said(b'{"a":' * 1_000_000)),
    "100,000 messages": Case(said(json.dumps({"model": "m", "messages": HELLO * 100_000}).encode())),
    "a million empty lists": Case(
        said(b'{"messages":[{"role":"user","content":"a"}],"x":[' + b"[]," * 1_000_000 + b"1]}")
    ),
    "a million texts": Case(said(b'{"messages":[' + b'"",' * 1_000_000 + b'""]}')),
    "600,000 names": Case(said(b"{" + b",".join(b'"%d":1' % number for number in range(600_000)) + b"}")),
    "a million quotes": Case(said(b'"' * 1_000_000)),
    "a million backslashes": Case(said(b'{"a":"' + b'\\"' * 1_000_000)),
    "a whole number of a million digits": Case(said(TURN[:-1] + b',"n":' + b"9" * 1_000_000 + b"}")),
    "1e999": Case(said(TURN[:-1] + b',"n":1e999}')),
    "NaN": Case(said(TURN[:-1] + b',"n":NaN}')),
    "NUL": Case(said(TURN + b"\x00")),
    "two values": Case(said(TURN + TURN)),
    "UTF-16": Case(said(TURN.decode().encode("utf-16"))),
    "gzip": Case(said(b"\x1f\x8b\x08\x00" + bytes(20))),
    "invalid UTF-8 outside a text": Case(said(TURN + b"\xff")),
    "control characters in a text": Case(said(_message(b'"\x00\x1b"'))),
    "another type everywhere": Case(said(b'{"model":[],"messages":[[]],"stream":{},"tools":""}')),
    "a prototype": Case(said(b'{"__proto__":{"messages":[]},"constructor":{}}')),
    "an endless list of messages": Case(said(b'{"messages":[' + b"{}," * 40_000)),
}

# unlucky, and understood
MENDED = {
    "invalid UTF-8 in a text": Case(said(_message(b'"\xff\xfe\xc0\xaf"')), 200),
    "half a character": Case(said(_message(b'"\xe4\xbd"')), 200),
    "a million bytes of no UTF-8": Case(said(_message(b'"' + b"\xff" * 1_000_000 + b'"')), 200),
    "half a surrogate pair": Case(said(_message(b'"\\ud83d"')), 200),
    "a byte order mark": Case(said(b"\xef\xbb\xbf" + TURN), 200),
    "64 levels": Case(said(TURN[:-1] + b',"x":' + b"[" * 63 + b"]" * 63 + b"}"), 200),
    "10,000 messages": Case(said(json.dumps({"model": "m", "messages": HELLO * 10_000}).encode()), 200),
    "a text of 9 MB": Case(said(_message(b'"' + b"a" * 9_000_000 + b'"')), 200),
    "the same name twice": Case(said(b'{"model":"x",' + TURN[1:]), 200),
    "an empty line before it": Case(b"\r\n" + said(TURN), 200),
    "a URL of this server": Case(get("http://h/health"), 200),
    "4,000 slashes": Case(get("/" * 4000), 200),
    "HTTP/1.2": Case(get(version="HTTP/1.2"), 200),
    "HTTP/1.0": Case(get(version="HTTP/1.0"), 200),
    "an offer of HTTP/2": Case(get("/health", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"), 200),
    "chunk extensions": Case(chunked(SIZE + b' ; a="b c";d\r\n' + TURN + b"\r\n0;e\r\n\r\n"), 200),
    "chunks of one byte": Case(chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in TURN) + LAST), 200),
    "a trailer": Case(chunked(CHUNK + b"0\r\nX-Sum: 1\r\n\r\n"), 200),
    "a length with zeros": Case(post(f"Content-Length: 000{len(TURN)}", body=TURN), 200),
    "a body that waits for leave": Case(post(LENGTH, "Expect: 100-continue", body=TURN), 200),
}

UNFINISHED = {
    "half a line": Case(b"GET /hea", 408),
    "half a head": Case(b"GET /health HTTP/1.1\r\nHost: h\r\n", 408),
    "an empty line": Case(b"\r\n", 408),
    "a head without its body": Case(post(LENGTH), 408),
    "half a body": Case(post(LENGTH, body=TURN[:9]), 408),
    "half a chunk": Case(chunked(SIZE + b"\r\n" + TURN[:9]), 408),
    "chunks without the last": Case(chunked(CHUNK), 408),
    "trailers that are not ended": Case(chunked(CHUNK + b"0\r\nX-A: 1\r\n"), 408),
    "a body that nobody wants": Case(
        f"POST /models HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9\r\n\r\n".encode(), 405
    ),
    "nothing, and its half closed": Case(b"", CLOSED, half_closes=True),
    "half a line, and its half closed": Case(b"GET /hea", CLOSED, half_closes=True),
    "half a head, and its half closed": Case(b"GET /health HTTP/1.1\r\nHost: h\r\n", CLOSED, half_closes=True),
    "half a body, and its half closed": Case(post(LENGTH, body=TURN[:9]), 400, half_closes=True),
    "half a chunk, and its half closed": Case(chunked(SIZE + b"\r\n" + TURN[:9]), 400, half_closes=True),
    "chunks without the last, and its half closed": Case(chunked(CHUNK), 400, half_closes=True),
}

CLASSES = {
    "request lines": REQUEST_LINES,
    "targets": TARGETS,
    "headers": HEADERS,
    "framings": FRAMINGS,
    "chunks": CHUNKS,
    "too much": TOO_MUCH,
    "JSON": JSON,
    "unfinished": UNFINISHED,
    "mended": MENDED,
}
"""The classes, by the names that docs/security.md gives the rows of its table."""
