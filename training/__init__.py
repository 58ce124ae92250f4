"""Training and evaluation: devices, state, step, loop, optimizers, checkpoints and metrics."""
