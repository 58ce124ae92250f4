"""`python -m convzoo` is the command `convzoo`."""

from convzoo.cli.main import main

main()
