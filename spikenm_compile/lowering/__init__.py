"""From a lowered graph to another representation: plain C functions through TVM, ONNX, JSON."""
