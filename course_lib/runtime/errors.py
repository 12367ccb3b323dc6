"""The one family of errors that a user may meet."""


class CourseError(Exception):
    """Something the user can act on: the message is one sentence that says what was wrong and what to do.

    The command line prints the sentence and exits with 2; IPython shows it without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        """Return what IPython prints in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]
