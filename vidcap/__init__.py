"""VidCap: from a folder of videos to WebDataset shards of clips with captions of picture, sound and speech."""

__version__ = "0.1.0"
