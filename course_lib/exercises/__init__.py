"""Exercises, claims and predictions: what a lesson's cells call."""

from course_lib.exercises.claims import claim
from course_lib.exercises.notebook import check, hint
from course_lib.exercises.predictions import predict
from course_lib.exercises.records import record, recorded

__all__ = ["check", "claim", "hint", "predict", "record", "recorded"]
