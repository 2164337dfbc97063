"""Tools that every part of the engine uses."""

from .checkpoint import *  # noqa: F403
from .images import *  # noqa: F403
from .logger import *  # noqa: F403
from .meters import *  # noqa: F403
from .registry import *  # noqa: F403
from .tools import *  # noqa: F403
from .torchtools import *  # noqa: F403
