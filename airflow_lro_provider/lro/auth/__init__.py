"""From a connection's settings to a token."""
