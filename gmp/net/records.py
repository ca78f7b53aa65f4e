"""How large pieces are where there is TLS, for those who can do without importing it (`gmp.net.tls`)."""

RECORD = 16 * 1024  #: what one record holds at most
CHUNK = 128 * 1024  #: plaintext that is encrypted at once: what it becomes is still in the cache when it is written
