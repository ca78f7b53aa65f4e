"""The names of other members of the family, for those who port programs."""
