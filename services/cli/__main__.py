"""`python -m services.cli` is `doorman`."""

import sys

from services.cli import main

sys.exit(main())
