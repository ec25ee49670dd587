"""Language and vision models behind HTTP: endpoints, requests, conversations, answers."""
