"""Parts of tools/launch.py: the runs of a grid, and where and how they are executed."""
