"""`python -m spikenm_compile`."""

import sys

from spikenm_compile.cli import main

sys.exit(main())
