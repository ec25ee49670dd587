"""Opening, probing, decoding and cutting media."""
