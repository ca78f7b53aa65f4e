"""How nodes find each other: the seed manager, the directory, groups and families."""
