"""Kernels for CPUs, in C++: few rows against a cache, and by weights of few bits. The machine's own compiler builds
them for its own CPU, when they are first needed."""
