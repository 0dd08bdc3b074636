"""One poller for all waits of an event loop."""
