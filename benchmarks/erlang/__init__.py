"""Erlang's side of the benchmarks."""
