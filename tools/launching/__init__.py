"""Parts of tools/launch.py: the runs of a protocol, and where and how they are executed."""
