"""All checks, in the order of the report."""

from doctor.check import Check
from doctor.checks import access, audio, calls, chunks, errors, latency, plain, reach, requests, stream, tools

CHECKS: tuple[Check, ...] = (
    *reach.CHECKS,
    *access.CHECKS,
    *stream.CHECKS,
    *chunks.CHECKS,
    *plain.CHECKS,
    *requests.CHECKS,
    *tools.CHECKS,
    *errors.CHECKS,
    *calls.CHECKS,
    *latency.CHECKS,
    *audio.CHECKS,
)
