"""`python -m stele.cli` is `stele`."""

from stele.cli.main import main

main()
