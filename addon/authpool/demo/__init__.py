"""`make demo`: an account is revoked, no client notices, and it comes back. Everything in it is real but the users."""
