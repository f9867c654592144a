"""Who may use the gateway: its own clients (no OAuth client), their keys, what they may reach and how much. Pure."""
