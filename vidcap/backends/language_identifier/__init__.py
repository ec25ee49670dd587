"""Backends of the role `language_identifier`, one per file."""
