"""Connections on demand: find where a node listens, and dial it."""

from __future__ import annotations

import gevent
import gevent.event

from gmp.config import parse_seed
from gmp.errors import ConfigError, GmpError
from gmp.mesh.backbone import Backbone
from gmp.mesh.ground import Ground

ASK_AGAIN = 0.5  # seconds after which the directory is asked again about a node that it did not know


def connect(ground: Ground, backbone: Backbone, node_id: str, timeout: float) -> str:
    """Connect to `node_id` within `timeout` seconds; return what went wrong, or nothing when it is connected.

    *Blocks:* until it is connected, every address has failed, or the time is up.
    """
    problem = "nobody knows where it listens"
    with gevent.Timeout(timeout, False):  # type: ignore[arg-type]  # False: end the block in silence
        while not ground.is_up(node_id):
            addresses = _find(backbone, node_id)
            if addresses is None:
                gevent.sleep(ASK_AGAIN)
                continue
            problem = _dial_each(ground, node_id, addresses)
            break
    return "" if ground.is_up(node_id) else problem


def _find(backbone: Backbone, node_id: str) -> list[str] | None:
    result: gevent.event.AsyncResult[list[str] | None] = gevent.event.AsyncResult()
    backbone.find(node_id, result.set)
    return result.get()


def _dial_each(ground: Ground, node_id: str, addresses: list[str]) -> str:
    problem = "it listens nowhere"
    for text in addresses:
        if ground.is_up(node_id):
            return ""
        try:
            ground.dial(parse_seed(text), expect=node_id)
        except (GmpError, ConfigError, OSError) as error:
            problem = f"{text}: {error}"
    return problem
