"""Backends of the role `llm`, one per file."""
