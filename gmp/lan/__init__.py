"""Nodes on a LAN (extra ``lan``): they find each other by mDNS, and get their secret by a pairing code (`gmp pair`)."""
