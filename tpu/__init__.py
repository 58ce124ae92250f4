"""The cost of a training step on a Cloud TPU, estimated by the TPU compiler on a machine without a TPU.

`lowering` turns the step of an experiment into XLA's HLO, `compiler` compiles it in a separate process, `hlo_text`
parses the compiled program, and `estimate` combines the results. No step runs on a TPU: all times are the compiler's
estimates. `kernel_support` checks a network against TensorFlow's TPU kernels, `status` queries the state of a Cloud
TPU, and `queued_resource` trains on one that it requests.
"""
