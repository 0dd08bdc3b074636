"""What both clients, and all credentials, must do alike."""
