"""Remember callers for a month: what each said lately is told to the LLM with what they say now."""

import sqlite3
from contextlib import closing
from pathlib import Path

DB = Path(__file__).with_name("callers.sqlite")


def answer(turn):
    said = []
    if turn.session:  # else nobody knows who calls
        with closing(sqlite3.connect(DB, timeout=1)) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS said (who, text, at DEFAULT CURRENT_TIMESTAMP)")
            db.execute("DELETE FROM said WHERE at < datetime('now', '-30 days')")
            said = db.execute("SELECT at, text FROM said WHERE who = ? ORDER BY at DESC", [turn.session]).fetchmany(20)
            db.execute("INSERT INTO said (who, text) VALUES (?, ?)", [turn.session, turn.text])
    asked = f"{turn.text}\n\n(What I said to you before, and when: {said})"
    yield from turn.ask([*turn.messages[:-1], {"role": "user", "content": asked}])
