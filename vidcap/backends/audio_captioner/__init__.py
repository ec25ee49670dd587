"""Backends of the role `audio_captioner`, one per file."""
