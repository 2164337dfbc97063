"""Parts of tools/export.py: one file per form, and what they share."""
