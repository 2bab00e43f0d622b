"""What the agent can do: tools, and where a customer's own agents plug in."""
