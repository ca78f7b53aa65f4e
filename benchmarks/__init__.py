"""Benchmarks of gmp: ``python -m benchmarks`` measures it side by side with its peers (`docs/performance.md`)."""
