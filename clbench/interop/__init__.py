"""Methods and streams of other libraries, by names of the form ``library:Name``.

Each library of ``registry.LIBRARIES`` has a module of its name here, with the functions ``method(name)``, ``stream(name)``,
``is_stream(name)`` and ``release()``. It imports the library only when one of these is called: clbench itself does not need it.
"""
