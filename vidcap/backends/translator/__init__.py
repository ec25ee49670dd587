"""Backends of the role `translator`, one per file."""
