"""The tests, and what they stand on: helpers are imported from here, by their full names."""
