"""What `build` writes to disk: one directory with a manifest, weights and code. Needs numpy only."""
