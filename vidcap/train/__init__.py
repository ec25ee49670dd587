"""The trainer of a video-audio-text model on the shards: data, losses, the loop, checkpoints, retrieval."""
