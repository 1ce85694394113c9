"""The scan that is drawn."""

from two_kidneys import image, labels

__all__ = ["image", "labels"]
