"""Methods that learn from images, or from videos frame by frame."""
