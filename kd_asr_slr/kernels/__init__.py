"""Loops over rows of numbers, compiled for the processor: everything that is done to a row while it is in the cache.

torch goes through the memory once an operator. What costs more than its arithmetic there is written here as the loop
that it is, compiled by numba at its first use, and kept on the disk for the next process. Everything here has a
counterpart in torch, for GPUs, other number types and small tensors; tests hold both against the same outside numbers.
"""
