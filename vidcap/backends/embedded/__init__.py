"""What the embedded backends share: measurements of pictures and sound, claims about them, and sentences."""
