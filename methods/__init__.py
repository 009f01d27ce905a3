"""The zoo: one file (or folder) a method. To add a method, add a file with a subclass of ``clbench.method.Method``."""
