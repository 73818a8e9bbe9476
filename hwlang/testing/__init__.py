"""Tests of programs, to be read in this order:

cases          the tests of a file as they are run
runner         runs them
verdicts       what came of them, on paper and as JSON
"""
