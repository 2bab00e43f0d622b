"""The settings of what the agent can do: agents, tools, sessions."""

from pathlib import Path
from typing import Annotated, Literal

from settings.meaning import HEADER_NAME, about, seconds
from settings.sound import SoundSettings

_TOOL_NAMES = "a list of time, calculate and search, separated by commas"


class AbilitySettings(SoundSettings, frozen=True, rename="upper"):
    """What answers instead of the model alone, and what belongs together."""

    agents_dir: Annotated[
        Path | None, about("Folder with your own agents: `NAME.py` is served at `/NAME/chat/completions`.", "a folder")
    ] = None
    tools: Annotated[
        frozenset[str], about("Bundled tools that the model may call: `time`, `calculate`, `search`.", _TOOL_NAMES)
    ] = frozenset()
    tool_deadline_s: Annotated[float, seconds("Wait for a tool that has no deadline of its own.")] = 10.0
    tool_text: Annotated[
        Literal["pass", "hold"],
        about(
            "Whether text that comes before a call of a tool is passed on at once, or held until none is called.",
            "pass or hold",
        ),
    ] = "pass"
    tool_waiting_after_ms: Annotated[
        int,
        about(
            "When a waiting phrase is said while a tool runs, in ms; -1: never.",
            "a whole number, -1 to 60000",
            ge=-1,
            le=60000,
        ),
    ] = 1000
    waiting_en: Annotated[
        str, about("English phrase for a slow tool, or a spoken answer that is late.", "a sentence")
    ] = "One moment, please."
    waiting_zh: Annotated[str, about("The same in Chinese.", "a sentence")] = "请稍等。"
    interruption_note: Annotated[
        bool, about("Tell the model, in the assistant's message, where the caller interrupted it.", "1 or 0")
    ] = True
    session_header: Annotated[
        str, about("Header that holds a request's session id.", "a header's name", pattern=f"^{HEADER_NAME}$")
    ] = "X-Session-Id"
    session_channel_field: Annotated[
        str | None,
        about(
            "Field of a request's root that names the channel; with it `metadata.user` identifies a session.",
            "a field's name",
        ),
    ] = None
    redis_url: Annotated[
        str | None,
        about("Redis through which workers and machines share their sessions.", "a redis://, rediss:// or unix:// URL"),
    ] = None
