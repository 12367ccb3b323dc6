"""Interactive views: they show what a lesson's own model computes, live."""

from course_lib.widgets.attention_view import Asked, AttentionView
from course_lib.widgets.explorer import explorer

__all__ = ["Asked", "AttentionView", "explorer"]
