"""A check that says yes, or says no to a recipe that is named so."""

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    if "refused" in Path(sys.argv[1]).read_text():
        print(json.dumps({"error": {"class": "DataError", "what": "The dataset is empty.", "found": "0 rows", "expected": "", "fix": "add rows"}}))
        sys.exit(2)
    if "seen" in Path(sys.argv[1]).read_text():
        print(json.dumps({"error": {"class": "DataError", "what": f"GPUs {os.environ.get('CUDA_VISIBLE_DEVICES')}", "found": sys.argv[3]}}))
        sys.exit(2)
    if "crash" in Path(sys.argv[1]).read_text():
        sys.exit("no torch here")
    print("a library says hello")
    print(json.dumps({"nproc": int(sys.argv[sys.argv.index("--nproc") + 1]) if "--nproc" in sys.argv else 1}))
