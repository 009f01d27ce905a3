"""The command line, one module for each group of commands. Nothing heavy is imported before a command needs it."""
