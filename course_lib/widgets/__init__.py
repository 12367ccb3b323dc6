"""Interactive views: they show what a lesson's own model computes, live."""
