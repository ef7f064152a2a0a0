"""`python -m cli` is `podstrap`."""

from cli.main import main

raise SystemExit(main())
