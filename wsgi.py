"""What gunicorn loads: gevent's patches first, then the app."""

from gevent import monkey

# before anything imports ssl or requests: patched later, ssl recurses without end at the first https call
monkey.patch_all()

from app import create_app  # noqa: E402
from environment import load  # noqa: E402

# gunicorn.conf.py has said already what is served
app = create_app(load()[0], indexes=False)
