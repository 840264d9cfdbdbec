"""The stages of a run, one file each: what it reads, what it does, what it gives.

The planner imports these files, so what only the work needs is imported where the work is done. The files a stage can
reach by imports are its code (``identity``): it names other stages by role alone and imports none of their files.
"""
