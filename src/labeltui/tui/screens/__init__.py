"""What fills the terminal: the review screen and those that open over it."""
