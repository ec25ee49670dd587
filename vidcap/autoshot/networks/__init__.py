"""The shot networks. A torch room: its files import torch at the top, so they are imported inside functions only."""
