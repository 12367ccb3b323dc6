"""The error that a user of the town may meet."""

from course_lib.runtime.errors import CourseError


class TownError(CourseError, ValueError):
    """A request that the town cannot meet; the message says what was wrong and what to do."""
