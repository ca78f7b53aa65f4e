"""`gmp shell`: a prompt with a node. What it can is in `session`, how it looks in one file for each kind of prompt."""
