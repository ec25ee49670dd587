"""Files of published models: where they lie, what they are called, how they are fetched, checked and read."""
