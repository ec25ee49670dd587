"""Backends of the role `transcriber`, one per file."""
