"""``python -m ladseg``, which is also how torchrun starts it."""

import sys

from ladseg.cli import main

sys.exit(main())
