"""Where stages can run beside this machine (``runner.engine``): a registry, and one file an engine."""
