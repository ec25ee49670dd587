"""Models behind one Protocol per role; a backend is one file."""
