"""The runtime of hwlang: from a compiled program to tokens of several workers over one concurrent KV cache."""
