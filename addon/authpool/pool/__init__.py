"""The accounts of a pool: which there are, in what state each is, who can serve."""
