"""Plugins: what they import, the hooks they implement, how they are found, asked and told."""
