"""One turn from request to response: the caller's hang-up, the shape of an answer, how a stream ends."""
