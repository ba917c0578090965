"""``python3 -m deploy COMMAND``, run from a checkout by the Makefile."""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - this very line is for older ones
    sys.exit("Studiolo needs Python 3.10 or later: use Debian 12 or Ubuntu 22.04, or later ones.")

from deploy.commands import main

sys.exit(main())
