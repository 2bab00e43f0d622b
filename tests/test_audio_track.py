"""One reply's sound, chunk by chunk, each when it is due."""

import time
from base64 import b64decode
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.track import Form, Track

UNPACED = Form(lead_ms=0)
SECOND = bytes(range(250)) * 128


def data(deltas: list[dict[str, Any]]) -> bytes:
    return b"".join(b64decode(delta["data"]) for delta in deltas if "data" in delta)


def drained(track: Track) -> list[dict[str, Any]]:
    deltas = []
    while not track.is_over:
        assert track.due < inf
        deltas += track.take()
    return deltas


class TestChunks:
    def test_each_has_40_ms_and_the_last_one_is_filled_with_silence(self) -> None:
        track = Track(UNPACED)
        track.add(SECOND[:3000])
        track.end()

        deltas = drained(track)

        assert [len(b64decode(delta["data"])) for delta in deltas] == [1280, 1280, 1280]
        assert data(deltas) == SECOND[:3000] + bytes(840)

    def test_nothing_is_sent_of_a_chunk_that_is_not_full_while_more_may_come(self) -> None:
        track = Track(UNPACED)

        track.add(SECOND[:1279])
        before = (track.take(), track.due)
        track.add(SECOND[1279:1280])

        assert before == ([], inf)
        assert data(track.take()) == SECOND[:1280]

    @given(st.lists(st.integers(0, 4000), max_size=20))
    def test_all_sound_is_sent_once_however_it_comes(self, sizes: list[int]) -> None:
        track = Track(UNPACED)
        sound = (SECOND * 3)[: sum(sizes)]
        deltas, place = [], 0
        for size in sizes:
            track.add(sound[place : place + size])
            place += size
            deltas += track.take()
        track.end()

        sent = data(deltas + drained(track))

        assert sent[: len(sound)] == sound
        assert not any(sent[len(sound) :])

    @pytest.mark.parametrize(("repeats", "ids"), [(False, 1), (True, 25)])
    def test_the_first_one_bears_the_id_or_every_one(self, repeats: bool, ids: int) -> None:
        track = Track(Form(lead_ms=0, repeats_id=repeats))
        track.add(SECOND)
        track.end()

        deltas = drained(track)

        assert [delta["id"] for delta in deltas if "id" in delta] == [track.id] * ids


class TestNotes:
    def test_a_transcript_goes_with_the_chunk_that_holds_its_place(self) -> None:
        track = Track(UNPACED)
        track.add(SECOND)
        track.note(0, transcript="Hello.")
        track.note(100, transcript="Bye.")
        track.end()

        deltas = drained(track)

        assert [place for place, delta in enumerate(deltas) if "transcript" in delta] == [0, 2]

    def test_what_is_told_late_goes_with_the_next_chunk(self) -> None:
        track = Track(UNPACED)
        track.add(SECOND[:12800])
        track.take()

        track.note(0, words=[{"text": "Hello."}])
        track.add(SECOND[:1280])

        assert [delta["words"] for delta in track.take()] == [[{"text": "Hello."}]]

    def test_notes_of_one_chunk_are_joined_in_their_order(self) -> None:
        track = Track(UNPACED)
        track.note(0, transcript="Hello. ")
        track.note(1, words=[{"text": "Hello."}])
        track.note(2, transcript="Bye.", words=[{"text": "Bye."}])
        track.add(SECOND[:1280])

        (delta,) = track.take()

        assert delta["transcript"] == "Hello. Bye."
        assert [word["text"] for word in delta["words"]] == ["Hello.", "Bye."]

    def test_a_reply_without_sound_is_its_transcript(self) -> None:
        track = Track(UNPACED)
        track.note(0, transcript="Hello.")
        track.end()

        assert drained(track) == [{"id": track.id, "transcript": "Hello."}]

    def test_what_comes_after_the_sound_goes_with_its_last_chunk(self) -> None:
        track = Track(UNPACED)
        track.add(SECOND[:1280])
        track.note(5000, transcript="Hello.")
        track.end()

        assert [delta["transcript"] for delta in drained(track)] == ["Hello."]


class TestPace:
    def test_chunks_run_ahead_by_the_lead_and_no_more(self) -> None:
        track = Track(Form(lead_ms=200))
        track.add(SECOND * 2)
        track.end()
        began = time.monotonic()
        moments = []

        while time.monotonic() < began + 0.5:
            moments += [time.monotonic()] * len(track.take())
            time.sleep(max(0.0, min(track.due - time.monotonic(), 0.01)))

        ahead = [place * 0.04 - (moment - began) for place, moment in enumerate(moments)]
        assert len(moments) > 5
        assert max(ahead) <= 0.2
        assert track.late == 0

    def test_chunks_go_together_once_the_lead_is_there(self) -> None:
        track = Track(Form(lead_ms=400, chunk_ms=10))
        track.add(SECOND * 2)
        began = time.monotonic()
        first = track.take()
        due = track.due
        while track.due > time.monotonic():
            time.sleep(0.005)

        together = track.take()

        assert len(first) >= 41
        assert due - began >= (len(first) * 10 - 400 + 90) / 1000
        assert len(together) >= 10
        assert track.late == 0

    @pytest.mark.parametrize(
        ("lead_ms", "chunk_ms", "rest_ms"), [(1000, 40, 160), (0, 40, 0), (200, 40, 0), (9000, 250, 0)]
    )
    def test_a_chunk_waits_for_others_for_a_quarter_of_the_lead_at_most(
        self, lead_ms: int, chunk_ms: int, rest_ms: int
    ) -> None:
        assert Form(lead_ms=lead_ms, chunk_ms=chunk_ms).rest_ms == rest_ms

    def test_after_a_silence_that_was_heard_the_lead_is_counted_from_the_next_chunk(self) -> None:
        track = Track(Form(lead_ms=100))
        track.add(SECOND[:1280])
        track.take()
        time.sleep(0.15)

        track.add(SECOND)
        burst = track.take()

        assert track.late == 1
        assert 3 <= len(burst) <= 4

    def test_without_a_lead_all_goes_at_once(self) -> None:
        track = Track(UNPACED)
        track.add(SECOND)
        track.end()

        assert len(track.take()) == 25

    def test_a_whole_reply_is_one_message(self) -> None:
        track = Track(Form())
        track.add(SECOND[:3000])
        track.note(0, transcript="Hello.", words=[{"text": "Hello."}])
        track.end()

        whole = track.all()

        assert b64decode(whole["data"]) == SECOND[:3000]
        assert (whole["id"], whole["transcript"]) == (track.id, "Hello.")
        assert whole["words"] == [{"text": "Hello."}]
        assert whole["expires_at"] > time.time()
