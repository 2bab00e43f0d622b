"""Answer from the documents, and hand off to a human who is asked for, or where the documents say nothing."""

HAND_OFF = {"en": "I'll put you through to a colleague.", "zh": "我帮您转接人工客服。"}
HUMAN = ("human", "operator", "real person", "人工", "真人")


def answer(turn):
    wants_human = any(word in turn.text.lower() for word in HUMAN)
    passages = [] if wants_human else (yield from turn.search(turn.text))
    if not passages:
        yield turn.control(interruptable=False)
        yield HAND_OFF[turn.language]
        return
    notes = "\n\n".join(f"{each.title}: {each.text}" for each in passages)
    asked = f"Answer in two sentences, from these notes alone.\n\n{notes}\n\n{turn.text}"
    yield from turn.ask([*turn.messages[:-1], {"role": "user", "content": asked}])
