"""A Flask-SocketIO application that runs in several processes: only the line with GmpManager is different from one process.

Run one worker in each gunicorn, as Flask-SocketIO asks for (a client's polling requests must all reach the same worker; a
load balancer with sticky sessions goes before them), and as many gunicorns on as many hosts as you like.
"""

from __future__ import annotations

from flask import Flask, request
from flask_socketio import SocketIO, disconnect, emit, join_room, leave_room

from gmp.services.socketio import GmpManager

app = Flask(__name__)
socketio = SocketIO(app, client_manager=GmpManager(), async_mode="gevent", cors_allowed_origins="*")


@socketio.on("enter")
def enter(room: str) -> str:
    join_room(room)
    return request.sid


@socketio.on("leave")
def leave(room: str) -> None:
    leave_room(room)


@socketio.on("say")
def say(room: str, text: object) -> None:
    emit("said", text, to=room)


@socketio.on("shout")
def shout(text: object) -> None:
    emit("shouted", text, broadcast=True)


@socketio.on("kick")
def kick(sid: str) -> None:
    disconnect(sid)
