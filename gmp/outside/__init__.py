"""What gmp takes from outside of itself and cannot be given as an argument everywhere: the time, and chance.

Nothing else in gmp but the command asks the system for them, so what stands here can stand for something else: a test's
clock, or a simulated world's.
"""
