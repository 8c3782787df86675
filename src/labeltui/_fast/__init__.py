"""Compiled kernels. They trust their arguments: the package that calls a kernel has validated them.

Each kernel has a readable numpy twin in `reference`, which is its oracle in the tests.
"""
