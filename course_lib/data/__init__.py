"""Data for the lessons: the made-up town (riverbank), real text and the registry of public sets."""
