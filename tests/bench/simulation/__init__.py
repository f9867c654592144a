"""A pool under load in virtual time: how each rotation shares random limits, and what clients see of them."""
