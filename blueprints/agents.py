"""`/NAME/chat/completions`: a customer's own agent."""

from collections.abc import Callable
from typing import Any

from flask import Blueprint

from agents.answering import answering
from blueprints.completions import endpoint
from turns.turn import Turn

RESERVED = frozenset(
    ["agents", "audio", "chat", "completions", "docs", "health", "metrics", "models", "openapi", "playground", "rag"]
    + ["ready", "static", "v1"]
)
"""Names that are, or may come to be, the server's own."""


def blueprint(name: str, agent: Callable[[Turn], Any]) -> Blueprint:
    """Return the endpoint of one agent."""
    return endpoint(f"/{name}", answering(agent))
