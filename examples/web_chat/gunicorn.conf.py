"""Two workers, each with a node. The seed is `gmp run` or any other node that listens: GMP_SEEDS says where."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from gmp.services.gunicorn import hooks

wsgi_app = "chat:app"
worker_class = "gevent"
workers = 2
graceful_timeout = 3
bind = os.environ.get("BIND", "127.0.0.1:8000")
control_socket_disable = True  # since gunicorn 25.1 there is one for each user: two gunicorns would take it from each other
post_worker_init, worker_exit = hooks(start="chat:start")
