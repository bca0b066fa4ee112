"""`python -m fourdvd_cli` is `fourdvd`."""

from fourdvd_cli.app import main

main()
