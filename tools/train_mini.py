"""Train the bundled model, clip/mini, anew (what its training is: datasets/toy/train_mini.py).

python tools/train_mini.py            # about 15 minutes
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.toy.train_mini import main
from runs.errors import clean_errors

if __name__ == "__main__":
    with clean_errors():
        main()
