"""Refreshing tokens: what is asked, what the answer means, and what may be done about it.

One refresh is followed through three files: `refresher` (one flight per account and process, who waits for it, what is
known of other processes), `exchange` (the hold, the re-read, the POST, and what its answer asks for) and `ledger` (what
is written, and when). The rest is what these ask: `disable_rules` before a verdict, `replaced_tokens` whether a token
is spent, `pending_writes` for what the store did not take, `endpoint_watch` for endpoints that are down; and
`schedule`, which asks the refresher ahead of time.
"""
