"""The doctor: checks any custom LLM endpoint as a voice engine and OpenAI's clients would use it."""
