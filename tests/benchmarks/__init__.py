"""What the package costs, measured."""
