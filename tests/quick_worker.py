"""The worker with time limits that a test can wait for."""

from server.worker import Worker


class Quick(Worker):
    """Wait a second for a head, and four for a body."""

    head_s = 1.0
    body_s = 4.0
