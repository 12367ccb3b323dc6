"""The specification of each lesson's exercises: inputs, oracles, mistakes, hints."""
