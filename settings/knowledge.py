"""The settings of what the agent knows."""

from pathlib import Path
from typing import Annotated, Literal

from settings.meaning import PHRASES, URL, about
from settings.upstream import UpstreamSettings


class KnowledgeSettings(UpstreamSettings, frozen=True, rename="upper"):
    """What /rag answers from."""

    knowledge_dir: Annotated[
        Path | None, about("Folder with the documents that /rag answers from (a small bundled one).", "a folder")
    ] = None
    knowledge_index: Annotated[
        Path | None, about("File that the index is kept in (one in a private temporary folder).", "a file's path")
    ] = None
    knowledge_place: Annotated[
        Literal["user", "system_first", "system_before_last"],
        about(
            "Where what was found is put: in front of the last user message, into the first system message, or as a "
            "system message before the last user message.",
            "user, system_first or system_before_last",
        ),
    ] = "user"
    knowledge_budget: Annotated[
        int,
        about("Characters that what was found may take.", "a whole number, 200 to 100000", ge=200, le=100000),
    ] = 3000
    knowledge_passages: Annotated[
        int, about("Passages that are looked up for a question.", "a whole number, 1 to 20", ge=1, le=20)
    ] = 4
    knowledge_url: Annotated[
        str | None,
        about("Retrieval service with Dify's External Knowledge API, asked in place of the folder.", URL),
    ] = None
    knowledge_key: Annotated[str | None, about("Key of the retrieval service.", "a key")] = None
    knowledge_id: Annotated[str, about("Knowledge base to ask the retrieval service for.", "an id")] = "default"
    knowledge_timeout_ms: Annotated[
        int, about("Wait for the retrieval service, in ms.", "a whole number, 10 to 10000", ge=10, le=10000)
    ] = 300
    knowledge_cite: Annotated[
        bool, about("Name the sources in a field `sources` of the finish chunk and of plain JSON.", "1 or 0")
    ] = False
    rag_waiting_after_ms: Annotated[
        int,
        about(
            "When /rag says a waiting phrase: 0 at once, else if nothing was said after so many ms; -1: never.",
            "a whole number, -1 to 60000",
            ge=-1,
            le=60000,
        ),
    ] = 0
    rag_waiting_en: Annotated[tuple[str, ...], about("English waiting phrases.", PHRASES)] = (
        "Let me check that for you.",
        "One moment, please.",
        "Let me look that up.",
    )
    rag_waiting_zh: Annotated[tuple[str, ...], about("Chinese waiting phrases.", PHRASES)] = (
        "好的，我查一下。",
        "请稍等。",
        "我来看一下资料。",
    )
