"""Bytes only: greeting, authentication, framings and the session that joins them. No socket, no gevent, no clock."""
