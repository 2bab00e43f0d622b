"""What the project claims about its speed, as commands; nothing here imports the server."""
