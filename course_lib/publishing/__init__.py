"""From a lesson's one source to its notebooks, and the tools that run, judge and release them."""
