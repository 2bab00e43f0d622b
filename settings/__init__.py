"""Every setting: its name, type, unit, default, and one line of meaning."""

from urllib.parse import urlsplit

from protocol.address import is_loopback
from settings.operation import OperationSettings

OPENAI_URL = "https://api.openai.com/v1"


class Settings(OperationSettings, frozen=True, rename="upper"):
    """The settings of one server; seconds unless a name says otherwise.

    They stand in groups, each on the one before it: a Struct has one base.
    """

    @property
    def is_demo(self) -> bool:
        """Tell whether the built-in demo model answers."""
        return not (self.llm_api_key or self.llm_base_url)

    @property
    def upstream_url(self) -> str:
        """Return the upstream's URL."""
        return self.llm_base_url or OPENAI_URL

    @property
    def default_model(self) -> str | None:
        """Return the model that is asked where a request names none."""
        is_openai = urlsplit(self.upstream_url).hostname == "api.openai.com"
        return self.llm_model or ("gpt-4o-mini" if is_openai else None)

    @property
    def caller_keys(self) -> tuple[str, ...]:
        """Return the keys of which a caller must show one; none where no key of ours is checked."""
        return self.server_api_keys or ((self.llm_api_key,) if self.llm_api_key else ())

    @property
    def is_pass_through(self) -> bool:
        """Tell whether the caller's own key is the one that the upstream gets."""
        return not self.is_demo and not self.caller_keys

    @property
    def has_playground(self) -> bool:
        """Tell whether the playground's page is served."""
        return is_loopback(self.listens_on) if self.playground is None else self.playground

    @property
    def has_metrics(self) -> bool:
        """Tell whether requests are counted for Prometheus."""
        return bool(self.metrics_port or self.metrics_key)

    @property
    def listens_on(self) -> str:
        """Return the address to listen on."""
        return self.host or ("0.0.0.0" if self.caller_keys else "127.0.0.1")

    @property
    def summary(self) -> str:
        """Return the line that the server starts with: who answers, and who may call."""
        if self.is_demo:
            answers = "the built-in demo model answers (set LLM_API_KEY or LLM_BASE_URL for a real one)"
        else:
            answers = f"the language model at {urlsplit(self.upstream_url).hostname} answers"
        if self.server_api_keys:
            return f"{answers}; callers need one of SERVER_API_KEYS"
        if self.caller_keys:
            return f"{answers}; callers need LLM_API_KEY as their Bearer"
        return f"{answers}; " + (
            "each caller brings a key of their own" if self.is_pass_through else "no key is needed"
        )
