"""Runs of several people, seeds and machines on one board."""
