"""One poller per event loop, shared by all who wait there."""
