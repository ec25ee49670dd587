"""Training clips for shot detectors, made from single-shot footage: transitions to find, disturbances to ignore."""
