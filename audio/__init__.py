"""How it sounds: voices, recordings, and what the engine is sent to play."""
