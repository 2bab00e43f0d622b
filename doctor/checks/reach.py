"""Can the engine reach the endpoint?"""

import ipaddress
import time

from doctor.check import Opinion, check, fail, not_seen, ok, warn
from doctor.visit import Visit

_DAYS_LEFT = 14


@check(
    "reach.connect",
    "The endpoint answers: the agent joins all the same where it does not, and stays silent.",
    "Start the server, and let its host, port and path be those of the URL; a firewall may stand between.",
)
def connect(visit: Visit) -> Opinion:
    """See whether the first call was answered at all."""
    first = visit.calls[0]
    if not first.status:
        return fail(first.trouble or "no answer came")
    return ok(f"connected in {first.connect_s * 1000:.0f} ms")


@check(
    "reach.tls",
    "A URL with https has a certificate that is trusted, fits the name and is not about to end.",
    "Renew the certificate and send the whole chain; put a proxy with TLS in front of a plain server.",
)
def tls(visit: Visit) -> Opinion:
    """See whether the certificate was taken."""
    first = visit.calls[0]
    if first.tls_trouble:
        return fail(first.tls_trouble)
    if not visit.target.is_secure:
        if _is_local(visit.target.host):
            return not_seen("plain HTTP on a private address")
        return warn("plain HTTP: the key and what is said can be read on the way")
    if first.certificate_ends is None:
        return not_seen("no connection")
    days = (first.certificate_ends - time.time()) / 86_400
    return ok(f"good for {days:.0f} days") if days > _DAYS_LEFT else warn(f"it ends in {days:.0f} days")


@check(
    "reach.public",
    "The URL is public: the engine calls from the cloud.",
    "Give the engine a public address; for a trial a tunnel will do, at the price of its latency.",
)
def public(visit: Visit) -> Opinion:
    """See whether the address is one that only some machines reach."""
    if _is_local(visit.target.host):
        return warn("a private address, which the engine can't reach")
    return ok()


def _is_local(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal")) or "." not in host


CHECKS = (connect, tls, public)
