"""kitsam: the Segment Anything Model finds kidneys, tumors and cysts in CT."""

__version__ = "0.1.0"
