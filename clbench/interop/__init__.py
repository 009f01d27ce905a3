"""Other libraries' methods and streams, which have names of the form ``library:Name``.

A library is a module of this package with its name, which has the functions ``method(name)``, ``stream(name)``, ``is_stream(name)``
and ``release()``. It imports the library itself only when one of these is called: clbench does without it.
"""

LIBRARIES = ("avalanche",)
