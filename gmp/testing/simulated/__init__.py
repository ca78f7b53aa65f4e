"""What `gmp.testing.Simulation` is made of: an event loop in virtual time, and machines with a network in memory."""
