"""`Node` brings the parts together; beside it the node port's requests, calls, monitors and spawning."""
