"""Where answers come from: the HTTP client with its time limits and cancel, and the built-in demo model."""
