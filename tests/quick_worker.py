"""The worker with time limits that a test can wait for."""

from server.worker import Worker


class Quick(Worker):
    """Wait half a second for a head, and one for a body."""

    head_s = 0.5
    body_s = 1.0
