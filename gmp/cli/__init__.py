"""The `gmp` command. It uses the public API only; click and rich come with the extra ``gmp[cli]``."""
