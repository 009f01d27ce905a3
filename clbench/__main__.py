"""``python -m clbench`` is the command ``clbench``."""

from clbench.cli.main import main

main()
