"""What all commands share: joining the network, asking nodes, showing answers, failing with an exit code."""
