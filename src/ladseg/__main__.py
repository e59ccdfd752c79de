"""The entry point of ``python -m ladseg``, which torchrun uses too."""

import sys

from ladseg.cli import main

sys.exit(main())
