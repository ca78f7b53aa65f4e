"""`gmp shell`: a prompt with a node. `session` is what it does; each kind of prompt has a file of its own."""
