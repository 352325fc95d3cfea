"""Features of labelled samples: encoded once, kept on disk."""
