"""fluidfs beside other clients and beside the limits, on one server, with one data set, in one run.

A figure here is the median of interleaved rounds. What fails is an error in its cell and stops nothing else.
"""
