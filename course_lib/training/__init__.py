"""Training: batches, the optimiser, the learning rate, the loop, checkpoints that resume exactly."""
