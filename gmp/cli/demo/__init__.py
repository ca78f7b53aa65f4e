"""``gmp demo``: a network of worker processes, the jobs they do while some are killed, and the report."""
