"""The engine: registries, config, data pipeline, optimisers, training loop, evaluation.

The interface is that of Dassl 0.6.3 (https://github.com/KaiyangZhou/Dassl.pytorch; Zhou et al., Domain
Adaptive Ensemble Learning, IEEE TIP 2021): import paths, names, signatures, defaults, printed lines and the
layout of the output folder. A trainer or a data set that was written for it runs here without an edit. The
inside is new.
"""

__version__ = "0.6.3"
