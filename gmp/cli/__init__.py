"""The `gmp` command (extra ``cli``). Each file of `gmp.cli.commands` is a subcommand; what they share is beside it."""
