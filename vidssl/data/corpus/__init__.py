"""Many files to a corpus: scan, audit, shards, and preparing them for speed."""
