"""One worker, with a node. GMP_SEEDS says where a seed listens."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from gmp.services.gunicorn import hooks

wsgi_app = "app:app"
worker_class = "gevent"
workers = 1
graceful_timeout = 1
bind = os.environ.get("BIND", "127.0.0.1:8000")
control_socket_disable = True  # since gunicorn 25.1 there is one for each user: two gunicorns would take it from each other
post_worker_init, worker_exit = hooks()
