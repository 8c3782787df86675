import numpy as np
from numpy.typing import NDArray

TRUECOLOR: int
INDEXED: int
SIXTEEN: int

def pack(codes: NDArray[np.int32], kind: int) -> list[str]: ...
