"""Products on disk: the pixels, what they look like, and the document that says how they were made."""
