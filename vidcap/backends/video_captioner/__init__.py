"""Backends of the role `video_captioner`, one per file."""
