"""Pages that show what a run learned."""
