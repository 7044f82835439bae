"""Read by every Python that a test starts, because the tests put this folder on PYTHONPATH."""

from refused_sockets import refuse_sockets

refuse_sockets()
