"""The data sets: one file per data set, registered with Dassl when this package is imported.

Every module of the folder is imported, so that adding a data set touches its own file and nothing else.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
