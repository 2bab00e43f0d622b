"""The settings of how the server is run and watched."""

from typing import Annotated, Literal

from settings.abilities import AbilitySettings
from settings.meaning import about, seconds, whole


class OperationSettings(AbilitySettings, frozen=True, rename="upper"):
    """What the server bears, tells and shows."""

    max_streams: Annotated[
        int, whole("Answers that one worker gives at once; more are refused with 503.", 1, 1000000)
    ] = 1000
    head_s: Annotated[float, seconds("Wait for a request's head.")] = 10.0
    body_s: Annotated[float, seconds("Wait for a request's body.")] = 30.0
    drain_s: Annotated[
        float,
        about(
            "How long a server that is told to end goes on accepting, only to refuse: until balancers have noticed.",
            "a number of seconds, 0 to 25",
            ge=0,
            le=25,
        ),
    ] = 5.0
    metrics_port: Annotated[
        int,
        about(
            "Port on 127.0.0.1 that serves `/metrics` to Prometheus; 0: none.",
            "a port, 1 to 65535, or 0 for none",
            ge=0,
            le=65535,
        ),
    ] = 0
    metrics_key: Annotated[str | None, about("Bearer with which `/metrics` is served on PORT.", "a key")] = None
    cors_origins: Annotated[
        tuple[str, ...],
        about("Origins whose pages may call this server from a browser.", "a list of origins, separated by commas"),
    ] = ()
    playground: Annotated[
        bool | None, about("Serve the page at `/playground` (only where HOST is this machine).", "1 or 0")
    ] = None
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        about("Least level that is logged.", "DEBUG, INFO, WARNING or ERROR"),
    ] = "INFO"
    log_format: Annotated[Literal["plain", "json"], about("Form of a log line.", "plain or json")] = "plain"
