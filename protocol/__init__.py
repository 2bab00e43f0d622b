"""The wire, without I/O: requests, events, chunks, errors."""
