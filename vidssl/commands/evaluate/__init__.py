"""The commands `vidssl evaluate TASK`, each a page over a Python call."""
