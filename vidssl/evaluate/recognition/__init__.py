"""What a label can be read from: neighbours, classifiers and clusters of frozen features."""
