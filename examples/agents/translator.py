"""Say what the caller said in the other language: English in Chinese, Chinese in English."""

OTHER = {"en": "Chinese", "zh": "English"}


def answer(turn):
    task = f"Translate what the user says into {OTHER[turn.language]}. Say the translation and nothing else."
    messages = [{"role": "system", "content": task}, {"role": "user", "content": turn.text}]
    yield from turn.ask(messages, temperature=0)
