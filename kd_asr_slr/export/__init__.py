"""A trained CTC network as a file of its own: ONNX, ONNX with int8 weights, or a `torch.export` program."""
