"""Sockets: listening, dialling, connections and the peer object of each remote node. `network` alone opens them."""
