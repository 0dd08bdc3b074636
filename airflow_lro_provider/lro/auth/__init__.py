"""From what a connection says to a token."""
