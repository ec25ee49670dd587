"""Backends of the role `shot_detector`, one per file."""
