"""How each exercise calls the learner's object: all that a sandbox may know of an exercise."""
