"""The parts of a screen, painted line by line."""
