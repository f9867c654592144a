"""Refreshing tokens: what is asked, what the answer means, and what may be done about it."""
