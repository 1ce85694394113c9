"""`python -m kitsam`, which `accelerate launch` and `torchrun` start on each process."""

import sys

from kitsam.cli import main

sys.exit(main())
