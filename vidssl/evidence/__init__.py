"""What the claims rest on: proofs, worlds, torture, benchmarks."""
