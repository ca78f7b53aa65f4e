"""What is run in processes of its own and measures: one program for each peer, all by the rules of `measure`."""
