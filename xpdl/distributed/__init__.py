"""Training by several processes, on one machine or many: the communicator of a `Trainer`.

``Trainer(..., communicator=xpdl.distributed.mpi())`` in a script that ``mpiexec -n 4 python train.py`` starts.
"""

from xpdl.distributed.communicator import Communicator, RankError
from xpdl.distributed.message_passing import MPICommunicator, mpi

__all__ = ["Communicator", "MPICommunicator", "RankError", "mpi"]
