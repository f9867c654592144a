"""What an operator can do to accounts."""
