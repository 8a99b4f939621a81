"""`python -m genlab`, the same program as `genlab`."""

import sys

from genlab.cli import main

sys.exit(main())
