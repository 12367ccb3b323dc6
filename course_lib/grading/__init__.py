"""Grading: run students' notebooks in a sandbox, judge what comes back outside it, keep the books."""
