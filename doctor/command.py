"""The command line: `script/doctor URL`, and `flask doctor URL`."""

import click

from doctor.report import Report
from doctor.target import BadTarget, read_target
from doctor.visit import Bounds, Visit


@click.command("doctor")
@click.argument("url")
@click.option("--key", envvar="DOCTOR_KEY", help="The key that callers must show; better set as DOCTOR_KEY.")
@click.option("--model", default="default", show_default=True, help="The model that requests name.")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header to send; may be repeated.")
@click.option("--calls", default=3, show_default=True, type=click.IntRange(1, 100), help="Calls that are timed.")
@click.option("--time", "total_s", default=60.0, show_default=True, type=click.FloatRange(1), help="Seconds in all.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--audio/--no-audio", default=None, help="It speaks, or does not; by default the URL's path tells.")
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False), help="Certificates to trust.")
@click.option("--upstream-stats", metavar="URL", help="A page that counts what runs behind the endpoint.")
def command(
    url: str,
    key: str | None,
    model: str,
    headers: tuple[str, ...],
    calls: int,
    total_s: float,
    as_json: bool,
    audio: bool | None,
    ca_file: str | None,
    upstream_stats: str | None,
) -> None:
    """Check a custom LLM endpoint as a voice engine and OpenAI's clients would use it.

    URL is the full one that the engine is to call, as in https://host/rag/chat/completions. The exit code is 0 where
    nothing failed, 1 where something did, 2 where the command is not understood.
    """
    try:
        named = dict(_header(each) for each in headers)
        target = read_target(url, key=key or None, model=model, headers=named, ca_file=ca_file, audio=audio)
    except BadTarget as error:
        raise click.UsageError(str(error)) from None
    report = Report(Visit(target, Bounds(calls, total_s), upstream_stats), audio=audio is not False)
    click.echo(report.as_json() if as_json else report.as_table())
    click.get_current_context().exit(1 if report.has_failed else 0)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise BadTarget("a header has a name and a value, as in --header 'X-Team: voice'")
    return name.strip(), value.strip()
