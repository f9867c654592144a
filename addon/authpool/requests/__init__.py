"""One request's way: an account for it, what the upstream's answer does, and what the gateway says itself."""
