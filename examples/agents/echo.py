"""Say back what the caller said."""


def answer(turn):
    yield "You said: "
    yield turn.text
