"""One cell of the ranking benchmark in a process of its own: a line of JSON for each way of counting.

python -m benchmarks.ranked '{"model": "fc3", "dataset": "mnist", "seed": 0, ...}' uniform own
"""

import json
import sys

import torch

from benchmarks.ranked.cells import Cell
from benchmarks.ranked.measuring import measure

if __name__ == "__main__":
    torch.set_num_threads(1)
    given = json.loads(sys.argv[1])
    for found in measure(Cell(**given | {"levels": tuple(given["levels"])}), sys.argv[2:]):
        print(json.dumps(found), flush=True)
