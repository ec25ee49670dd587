"""Trains the audio captioner `beats_qformer` on captioned sounds in the JSON format of WavCaps."""
