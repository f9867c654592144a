"""Sealing: secrets at rest are encrypted, whatever the store. Pure, but for the keys' own randomness.

A random data key seals the values (`sealed_value`), the operator's key wraps the data key (`key_ring`), and what a
process knows of both is in `keys`. Which parts of an account are sealed, `sealed_document` says. Where the wrapped keys
lie, and under which lock they change, is the store's affair.
"""
