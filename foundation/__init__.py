"""What all floors stand on, also those above the original Dassl: whole files, errors, processes, what a run is.

It imports from none of the others.
"""
