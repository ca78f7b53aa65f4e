"""Ports: mailboxes, the greenlets that work for them, monitors, and the table of one node's ports. No network."""
