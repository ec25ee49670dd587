"""Networks that backends and trainers share, under the key names of their published files; each imports torch."""
