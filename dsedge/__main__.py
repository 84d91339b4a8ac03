"""`python -m dsedge`."""

from dsedge.cli import main

main()
