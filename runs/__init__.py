"""What a run is and what it leaves. Importing this package makes the checkout importable from any folder.

A program opens with `sys.path.insert(0, str(Path(__file__).resolve().parents[1]))` to find this package;
the rest of the path is set here, once: the checkout first, and before it the original Dassl where
DASSL_PATH names a checkout of it.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DASSL = Path(os.environ["DASSL_PATH"]).expanduser().resolve() if os.environ.get("DASSL_PATH") else None

# `python tools/x.py` puts tools/ itself first; its files are modules of that package, not top-level ones.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() not in (ROOT, ROOT / "tools")]
sys.path.insert(0, str(ROOT))
if DASSL:
    sys.path.insert(0, str(DASSL))

    from runs import original_dassl

    original_dassl.adapt()
