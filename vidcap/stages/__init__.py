"""The steps a clip walks through, one file each."""
