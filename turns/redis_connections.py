"""Where Redis is, and how long it may take."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit


def check_redis_url(url: str) -> str:
    """Return the URL of a Redis server; raise ValueError, without repeating a password, where it is none.

    `redis://[user:password@]host[:port][/database]`, `rediss://…` for TLS, or `unix:///path`. TLS may have options of
    redis-py, such as `?ssl_ca_certs=/path`; what else could be an option there is decided here.
    """
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must be a redis://, rediss:// or unix:// URL")
    try:
        parts = urlsplit(url)
        is_odd = parts.port == 0
    except ValueError:
        is_odd = True
    if is_odd:
        raise ValueError("must have a port of 1 to 65535; a password's special characters must be written as %XX")
    if parts.scheme == "unix":
        if parts.hostname or not parts.path.strip("/"):
            raise ValueError("must name a socket, as in unix:///run/redis.sock")
    elif not parts.hostname or parts.fragment:
        raise ValueError("must name a host; a password's special characters must be written as %XX")
    elif parts.path.strip("/") and not parts.path.strip("/").isdecimal():
        raise ValueError("must have a database's number, or nothing, for a path")
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if parts.scheme != "rediss" or not name.startswith("ssl_"):
            raise ValueError("must have no options but ssl_… of a rediss:// URL")
    return url


def connections_to(url: str, deadline_ms: float) -> Callable[[], Any]:
    """Return what makes connections to this Redis, not connected yet; each step of one has this deadline, in ms.

    Raises ValueError for a URL that is none.
    """
    check_redis_url(url)
    # here, for redis-py takes a while to import, and most servers need none
    from redis import ConnectionPool
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    wait = {"socket_timeout": deadline_ms / 1000}
    if not url.startswith("unix:"):
        wait |= {"socket_connect_timeout": deadline_ms / 1000, "socket_keepalive": True}
    # what failed is not tried again behind our back: it could be out of order then
    rules: dict[str, Any] = {"protocol": 2, "retry": Retry(NoBackoff(), 0), **wait}
    try:
        pool = ConnectionPool.from_url(url, **rules)
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError):
        raise ValueError("has an ssl_… option that redis-py does not know, or not with this value") from None
    return lambda: pool.connection_class(**pool.connection_kwargs)
