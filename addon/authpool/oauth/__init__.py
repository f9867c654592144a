"""The protocol with a provider (RFC 6749): what is asked, how, and what an answer means."""
