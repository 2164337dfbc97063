"""The toy world that the bundled model knows: drawn pictures, their captions, and how it was trained on them."""
