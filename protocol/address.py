"""Addresses of machines."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address, or a socket of its file system."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith(("unix:", "/"))
