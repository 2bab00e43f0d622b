"""What gunicorn loads: gevent's patches first, then the app."""

from gevent import monkey

# before anything imports ssl or requests: patched later, ssl recurses without end at the first https call
monkey.patch_all()

import sys  # noqa: E402

from gunicorn.arbiter import Arbiter  # noqa: E402

from agents.loading import BadAgent  # noqa: E402
from app import create_app  # noqa: E402
from environment import load  # noqa: E402

try:
    # gunicorn.conf.py has said already what is served
    app = create_app(load()[0], indexes=False)
except BadAgent as bad:
    print(f"custom-llm-server: {bad}", file=sys.stderr)
    sys.exit(Arbiter.APP_LOAD_ERROR)  # with any other status gunicorn would try again, and again
