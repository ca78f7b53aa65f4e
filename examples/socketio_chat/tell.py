"""A plain script that emits to the clients of all workers: ``python tell.py "the text"``, with a seed in GMP_SEEDS."""

import sys

import gmp
from gmp.services.socketio import GmpManager

with gmp.configure(binds=[]) as node:
    GmpManager(write_only=True).emit("shouted", sys.argv[1])
