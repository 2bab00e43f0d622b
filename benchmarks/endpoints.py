"""Name an endpoint, resolve it once, and write requests for it."""

import ipaddress
import json
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

PATH = "/chat/completions"


@dataclass(frozen=True)
class Endpoint:
    """One chat completions endpoint: where it is and what opens it."""

    host: str  # as the URL has it, with the port
    path: str
    key: str
    family: int
    address: tuple[str, int]

    @classmethod
    def resolve(cls, url: str, key: str, *, anywhere: bool = False) -> "Endpoint":
        """Resolve `url` to an address that answers; a bare origin gets /chat/completions.

        ValueError if it is no http URL, or none of this machine and `anywhere` is not set; ConnectionError if nothing
        listens.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url}: not an http:// URL (TLS is terminated in front: measure what stands behind it)")
        port = parts.port or 80
        path = (PATH if parts.path in ("", "/") else parts.path) + (f"?{parts.query}" if parts.query else "")
        try:
            found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
            if not anywhere and not all(_is_loopback(str(address[0])) for *_, address in found):
                raise ValueError(f"{url}: not on this machine; --i-own-this-server measures it all the same")
            with socket.create_connection((parts.hostname, port), timeout=5) as probe:
                family, address = probe.family, probe.getpeername()[:2]
        except OSError as error:
            raise ConnectionError(f"{url}: {error}") from error
        return cls(host=parts.netloc, path=path, key=key, family=family, address=address)

    def request(
        self, model: str, tag: int, *, stream: bool = True, says: str = "Hello, what can you do for me today?"
    ) -> bytes:
        """Return the bytes of a request as a voice-agent engine sends it, in which the caller `says` something.

        `tag` comes back in what the mock tells of its streams.
        """
        question = {
            "model": model,
            "stream": stream,
            "messages": [
                {"role": "system", "content": f"You are a helpful voice assistant. Answer briefly. ##{tag}##"},
                {"role": "user", "content": says},
            ],
            "context": {"appId": "bench", "userId": f"u{tag}", "channel": f"c{tag}"},
        }
        body = json.dumps(question).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
            f"Accept: {'text/event-stream' if stream else 'application/json'}\r\n"
            f"{f'Authorization: Bearer {self.key}' + chr(13) + chr(10) if self.key else ''}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
