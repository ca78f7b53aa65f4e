"""Services: objects whose methods other nodes call. A service is a port, a call is a message to it (`docs/protocol.md`)."""
