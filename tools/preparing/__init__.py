"""Parts of tools/prepare.py: data sets from their authors to the folders that CoOp introduced, and the proof."""
