"""`/audio/chat/completions`: the language model, spoken, or a recording."""

from flask import Blueprint

from audio.sounding import Sounding
from blueprints.chat import answer
from blueprints.completions import player


def blueprint(sounding: Sounding) -> Blueprint:
    """Return the endpoint."""
    return player(sounding, answer)
