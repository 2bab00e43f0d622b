"""Addresses of machines."""

import ipaddress
import re

_ORIGIN = re.compile(r"(?P<scheme>https?)://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?")
_DEFAULT_PORTS = (("http", "80"), ("https", "443"))


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address, or a socket of its file system."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith(("unix:", "/"))


def is_origin(text: str) -> bool:
    """Tell whether this is a web page's origin as browsers write it: `https://shop.example`, without a slash behind it.

    https://www.rfc-editor.org/rfc/rfc6454#section-6.2
    """
    match = _ORIGIN.fullmatch(text)
    return match is not None and (match["scheme"], match["port"]) not in _DEFAULT_PORTS
