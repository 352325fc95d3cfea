"""Pure tensor functions: losses, clustering, gathering."""
