"""What the agent can do: tools, and where a customer's own agents plug in."""

from agents.tool import Tool, WrongArguments, tool

__all__ = ["Tool", "WrongArguments", "tool"]
