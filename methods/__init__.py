"""The zoo: one file (or folder) a method. Adding a method is adding a file with a subclass of ``clbench.method.Method``."""
