"""Submissions that are malicious, broken, careless or unusual, each with the mark that is fair, and why."""
