"""Learned shot boundary detectors: their networks, how they are trained, and how scores become shots."""
