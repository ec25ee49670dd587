"""Backends of the role `similarity`, one per file."""
