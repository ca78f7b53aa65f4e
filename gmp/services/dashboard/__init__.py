"""The network as a live picture in the browser: a WSGI application that mounts in any gevent web app. Read-only.

`Dashboard` is the application, `gmp dashboard` serves it by itself. `watcher` asks the nodes, `view` keeps what they said,
`pages` are the HTML, CSS and JavaScript that are sent; nothing is loaded from elsewhere.
"""

from gmp.services.dashboard.app import Dashboard

__all__ = ["Dashboard"]
