"""Print the tables, or write them into a Markdown file: `python -m spikenm_compile.frontend.support [FILE]`."""

from __future__ import annotations

import sys
from pathlib import Path

from spikenm_compile.frontend.support.text import replaced, support_tables

if len(sys.argv) > 1:
    path = Path(sys.argv[1])
    path.write_text(replaced(path.read_text(), support_tables()))
else:
    print(support_tables())
