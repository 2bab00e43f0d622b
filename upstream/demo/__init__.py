"""The built-in demo model: deterministic, extractive, in English and Chinese."""
