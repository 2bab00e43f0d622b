"""Exit with 0 if the server on this machine is ready: the check of a container's health."""

import http.client
import os
import sys


def main() -> int:
    """Ask /ready as a caller with a key does."""
    keys = os.environ.get("SERVER_API_KEYS") or os.environ.get("LLM_API_KEY") or "none"
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("PORT") or 8000), timeout=2)
    try:
        connection.request("GET", "/ready", headers={"Authorization": f"Bearer {keys.split(',')[0].strip()}"})
        return 0 if connection.getresponse().status == 200 else 1
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
