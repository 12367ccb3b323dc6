"""The finished parts that lessons build: what check() falls back on and later lessons import."""
