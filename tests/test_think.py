import json
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

import pytest
from cutting import cut
from hypothesis import example, given
from hypothesis import strategies as st
from scripted_upstream import COMPLETION, ROLE, STOP, chunk

from protocol.chunks import Batch, Completion, Event, read_chunk, read_completion
from turns.think import hide_thinking

CALL = {"index": 0, "id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
Body = dict[str, Any]


def events(*bodies: Body) -> list[Event]:
    """Read chunks as an upstream sends them."""
    return [read_chunk(json.dumps(body).encode()) for body in bodies]


def passed_on(answer: Iterable[Batch]) -> list[list[Event]]:
    """Hide the reasoning of an answer and return its batches."""
    batches = []
    for batch in hide_thinking(answer):
        assert isinstance(batch, Batch)
        batches.append(list(batch))
    return batches


def hidden(*bodies: Body) -> list[Body]:
    """Return the chunks of an answer whose reasoning is hidden, the same whether they came apart or at once."""
    apart = passed_on(Batch([each]) for each in events(*bodies))
    at_once = passed_on([Batch(events(*bodies))])
    assert [each.data for batch in apart for each in batch] == [each.data for batch in at_once for each in batch]
    return [json.loads(each.data) for batch in apart for each in batch]


def texts(*contents: str, last: Body | None = None) -> list[Body]:
    """Write an answer with this text."""
    return [ROLE, *(chunk({"content": content}) for content in contents if content), last or STOP]


def said(chunks: list[Body]) -> tuple[str, str]:
    """Return the reasoning and the content of an answer."""
    deltas = [choice["delta"] or {} for each in chunks for choice in each["choices"]]
    reasoning, content = ("".join(delta.get(key) or "" for delta in deltas) for key in ("reasoning_content", "content"))
    return reasoning, content


def calls_in(chunks: list[Body]) -> list[Any]:
    """Return the calls to tools in an answer's chunks."""
    found = [each["choices"][0]["delta"].get("tool_calls") for each in chunks]
    return [calls for calls in found if calls]


@pytest.mark.parametrize("start", ["", "\n"])
def test_a_block_is_found_wherever_it_is_cut(start: str) -> None:
    text = start + "<think>\na < b </t</think>\n\nYes <b>!</think>"

    for places in combinations(range(1, len(text)), 2):
        reasoning, content = said(hidden(*texts(*cut(text, *places))))
        assert (reasoning, content.lstrip()) == ("\na < b </t", "Yes <b>!</think>"), places
    assert said(hidden(*texts(*text)))[0] == "\na < b </t"


pieces_of_tags = st.lists(st.sampled_from(["<", "/", "th", "think", ">", "<think>", " ", "\n", "a", "é"]), max_size=8)


@given(
    thought=pieces_of_tags.map("".join).filter(lambda text: "</think>" not in text),
    answer=pieces_of_tags.map("".join),
    space=st.sampled_from(["", "\n", " \n\n"]),
    places=st.lists(st.integers(1, 60), max_size=6),
)
@example(thought="</think", answer="", space="", places=[])
@example(thought="a", answer="</think>b", space="\n", places=[13])
def test_a_block_becomes_reasoning_and_the_rest_is_said(
    thought: str, answer: str, space: str, places: list[int]
) -> None:
    text = f"<think>{thought}</think>{space}{answer}"

    found = said(hidden(*texts(*cut(text, *places))))

    assert found == (text[7:].split("</think>")[0], text.split("</think>", 1)[1].lstrip())


@given(
    text=pieces_of_tags.map("".join).filter(lambda text: not text.lstrip().startswith("<think>")),
    places=st.lists(st.integers(1, 30), max_size=4),
)
@example(text="<thin", places=[])
@example(text=" <", places=[1])
def test_what_opens_with_no_block_stays_as_it_came(text: str, places: list[int]) -> None:
    bodies = texts(*cut(text, *places))

    assert hidden(*bodies) == bodies


def test_what_opens_with_no_block_goes_on_as_the_bytes_that_came() -> None:
    sent = events(ROLE, chunk({"content": "<"}), chunk({"content": "b>Hi"}), chunk({"content": "<think>"}), STOP)

    passed = [each for batch in passed_on(Batch([each]) for each in sent) for each in batch]

    assert all(ours is theirs for ours, theirs in zip(passed, sent, strict=True))


def test_what_follows_a_block_goes_on_as_the_bytes_that_came() -> None:
    sent = events(chunk({"content": "<think>a</think>"}), chunk({"content": "Hi"}), chunk({"content": " you"}), STOP)

    passed = [each for batch in passed_on([Batch(sent[:2]), Batch(sent[2:])]) for each in batch]

    assert all(ours is theirs for ours, theirs in zip(passed[-3:], sent[-3:], strict=True))


def test_what_cannot_be_a_block_is_not_held_back() -> None:
    sent: list[Body] = []

    def answer() -> Iterator[Batch]:
        for body in (ROLE, chunk({"content": "Hi"}), chunk({"content": "<"}), STOP):
            sent.append(body)
            yield Batch(events(body))

    for number, _ in enumerate(hide_thinking(answer()), 1):
        assert len(sent) == number


def test_thoughts_come_out_as_they_come_in() -> None:
    sent = [Batch(events(chunk({"content": content}))) for content in ("<think>", "a", "b</", "c", "</thi", "nk>", "d")]

    passed = [[json.loads(each.data)["choices"][0]["delta"] for each in batch] for batch in passed_on(sent)]

    assert passed == [
        [{"reasoning_content": "a"}],
        [{"reasoning_content": "b"}],
        [{"reasoning_content": "</c"}],
        [{"content": "d"}],
    ]


@pytest.mark.parametrize("text", ["<think>a", "<think>a</think", "<think>a</", "<think>", " <think>a <think>"])
@pytest.mark.parametrize(
    "finish",
    [
        STOP,
        chunk({}, "length"),
        chunk({"content": ""}, "stop", usage=USAGE),
        chunk(choices=[{"index": 0, "delta": None, "finish_reason": "stop"}]),
    ],
)
def test_a_block_that_is_never_closed_is_all_reasoning(text: str, finish: Body) -> None:
    for contents in ([text], list(text)):
        chunks = hidden(*texts(*contents, last=finish))

        assert (said(chunks)[0], said(chunks)[1].strip()) == (text.replace("<think>", "", 1).lstrip(" "), "")
        assert chunks[-1]["choices"][0]["finish_reason"] == finish["choices"][0]["finish_reason"]
        assert chunks[-1].get("usage") == finish.get("usage")


@pytest.mark.parametrize("text", ["<", "<thi", "\n<think", ""])
def test_text_that_may_have_become_a_block_is_said_at_the_end(text: str) -> None:
    assert said(hidden(*texts(text))) == ("", text)
    assert said(hidden(*texts(text)[:-1])) == ("", text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<think>a</think>b", ("a", "b")),
        ("<think>a</think>", ("a", "")),
        ("<think></think>b", ("", "b")),
        ("<think>a", ("a", "")),
        ("<thi", ("", "<thi")),
        ("b", ("", "b")),
    ],
)
def test_an_answer_in_one_chunk_keeps_its_finish_and_usage(text: str, found: tuple[str, str]) -> None:
    body = chunk({"role": "assistant", "content": text}, "stop", usage=USAGE, system_fingerprint="fp")

    chunks = hidden(body)

    assert said(chunks) == found
    assert [each["choices"][0]["finish_reason"] for each in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert [each.get("usage") for each in chunks] == [None] * (len(chunks) - 1) + [USAGE]
    assert chunks[-1]["system_fingerprint"] == "fp"
    assert {each["id"] for each in chunks} == {"chatcmpl-up"}


@pytest.mark.parametrize("space", ["", "\n\n"])
@pytest.mark.parametrize(
    ("after", "content"),
    [
        ([chunk({"tool_calls": [CALL]}), chunk({}, "tool_calls")], ""),
        ([chunk({"content": None, "tool_calls": [CALL]}), chunk({}, "tool_calls")], ""),
        ([chunk({"content": "\n", "tool_calls": [CALL]}), chunk({}, "tool_calls")], ""),
        ([chunk({"tool_calls": [CALL]}, "tool_calls")], ""),
        ([chunk({"content": "b", "tool_calls": [CALL]}, "tool_calls", usage=USAGE)], "b"),
    ],
)
def test_a_call_after_a_block_is_kept(space: str, after: list[Body], content: str) -> None:
    chunks = hidden(chunk({"content": "<think>a</think>" + space}), *after)

    assert calls_in(chunks) == [[CALL]]
    assert said(chunks) == ("a", content)
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("text", ["<think>a</think>b", "<think>a</think>", "<think>a", "<think>a</think> \n"])
def test_a_call_beside_a_block_is_sent_once(text: str) -> None:
    chunks = hidden(chunk({"role": "assistant", "content": text, "tool_calls": [CALL]}, "tool_calls"))

    assert calls_in(chunks) == [[CALL]]
    assert said(chunks)[0] == "a"


def test_what_an_answer_has_beside_its_text_is_kept() -> None:
    between = [
        chunk({"reasoning_content": "own "}),
        chunk({"content": "<think>a"}),
        chunk({"audio": {"id": "x"}}),
        chunk({"content": "b</think>"}),
        chunk({"annotations": [1]}),
        chunk({"content": "c"}, logprobs={"content": [1]}),
        STOP,
        chunk(choices=[], usage=USAGE),
    ]

    chunks = hidden(ROLE, *between)

    assert said(chunks) == ("own ab", "c")
    for body in (ROLE, between[0], between[2], *between[4:]):
        assert body in chunks


def test_what_comes_while_a_block_may_begin_is_kept() -> None:
    own = chunk({"reasoning_content": "own "})

    chunks = hidden(chunk({"content": "<th"}), own, chunk({"content": "ink>a</think>b"}), STOP)

    assert said(chunks) == ("own a", "b")


def test_one_part_of_a_chunk_that_is_cut_has_its_logprobs() -> None:
    body = chunk({"content": "<think>a</think>b"})
    body["choices"][0]["logprobs"] = {"content": [1]}

    chunks = hidden(body, STOP)

    assert [each["choices"][0].get("logprobs") for each in chunks].count({"content": [1]}) == 1


def test_the_other_choices_of_a_chunk_are_kept() -> None:
    other = {"index": 1, "delta": {"content": "<think>c"}, "finish_reason": None}
    body = chunk({"content": "<think>a</think>b"})

    chunks = hidden({**body, "choices": [*body["choices"], other]}, STOP)

    choices = [choice for each in chunks for choice in each["choices"]]
    assert choices.count(other) == 1
    assert [choice["delta"] for choice in choices if choice["index"] == 0] == [
        {"reasoning_content": "a"},
        {"content": "b"},
        {},
    ]


def test_half_a_character_beside_a_block_does_no_harm() -> None:
    data = json.dumps(chunk({"content": "<think>a</think>b"}, x="\ud83d")).encode()

    (batch,) = passed_on([Batch([read_chunk(data)])])

    assert said([json.loads(each.data) for each in batch]) == ("a", "b")


def test_an_alarm_is_passed_on() -> None:
    sent = [
        Batch(),
        Batch(events(chunk({"content": "<thi"}))),
        Batch(),
        Batch(events(chunk({"content": "s"}))),
        Batch(),
    ]

    assert [len(batch) for batch in passed_on(sent)] == [0, 0, 2, 0]


def test_an_answer_that_is_given_up_is_closed_at_once() -> None:
    closed = []

    def answer() -> Iterator[Batch]:
        try:
            for body in (chunk({"content": "<think>a"}), chunk({"content": "</think>b"}), chunk({"content": "c"})):
                yield Batch(events(body))
        finally:
            closed.append(True)

    for reads in (1, 2, 3):
        answered = hide_thinking(answer())
        for _ in range(reads):
            next(answered)
        answered.close()

        assert len(closed) == reads


def complete(*contents: Any, **message: Any) -> Completion:
    """Return a plain answer whose choices have this content, after its reasoning was hidden."""
    choices = [
        {"index": place, "message": {"role": "assistant", "content": content, **message}, "finish_reason": "stop"}
        for place, content in enumerate(contents)
    ]
    sent = read_completion(json.dumps({**COMPLETION, "choices": choices}).encode())
    (answer,) = hide_thinking([sent])
    assert isinstance(answer, Completion)
    assert json.loads(answer.data) == answer.body
    return answer


@pytest.mark.parametrize(
    ("content", "reasoning", "rest"),
    [
        ("<think>a</think>b", "a", "b"),
        ("\n<think>\na\n</think>\n\nb <think>c</think>", "\na\n", "b <think>c</think>"),
        ("<think></think>b", "", "b"),
        ("<think>a</think>", "a", ""),
        ("<think>a</thin", "a</thin", ""),
    ],
)
def test_a_block_that_opens_a_plain_answer_becomes_its_reasoning(content: str, reasoning: str, rest: str) -> None:
    answer = complete(content, tool_calls=[CALL])

    message = answer.body["choices"][0]["message"]
    assert message == {
        "role": "assistant",
        "content": rest,
        "tool_calls": [CALL],
        "reasoning_content": reasoning,
    }
    assert answer.text == rest
    assert answer.body["usage"] == COMPLETION["usage"]


def test_reasoning_that_a_plain_answer_has_already_is_kept() -> None:
    message = complete("<think>a</think>b", reasoning_content="own ").body["choices"][0]["message"]

    assert (message["reasoning_content"], message["content"]) == ("own a", "b")


def test_each_choice_of_a_plain_answer_is_looked_at() -> None:
    first, second = complete("a", "<think>b</think>c").body["choices"]

    assert first["message"] == {"role": "assistant", "content": "a"}
    assert second["message"] == {"role": "assistant", "content": "c", "reasoning_content": "b"}


@pytest.mark.parametrize("content", ["b", "b <think>a</think>", "<b>", "", None, [{"type": "text", "text": "<think>"}]])
def test_a_plain_answer_without_a_block_stays_as_it_came(content: Any) -> None:
    sent = json.dumps({**COMPLETION, "choices": [{"index": 0, "message": {"content": content}}]}, indent=2).encode()

    (answer,) = hide_thinking([read_completion(sent)])

    assert isinstance(answer, Completion)
    assert answer.data is sent
