"""The speed of every kernel beside what it would replace; see README.md."""
