"""What a training step would cost on a Cloud TPU, asked of the TPU compiler itself on a machine without a TPU.

`lowering` turns the step of an experiment into XLA's HLO, `compiler` compiles it in a process of its own, `compiled`
reads the compiled program, `estimate` puts both into one report. Nothing here runs on a TPU: all times are estimates of
the compiler's.
"""
