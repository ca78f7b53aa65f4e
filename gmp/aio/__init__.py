"""gmp for asyncio: a node in a native thread of its own, and coroutines and async iterators to use it with.

``async with gmp.aio.node(seeds=[…]) as node`` starts one. What it raises are gmp's own errors; cancelling ends what
is waited for.
"""

from gmp.aio.directory import Family, Group
from gmp.aio.facade import Monitor, Node, node
from gmp.aio.inbox import Events
from gmp.aio.port import Port

__all__ = ["Events", "Family", "Group", "Monitor", "Node", "Port", "node"]
