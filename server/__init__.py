"""How gunicorn runs us."""
