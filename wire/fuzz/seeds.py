#!/usr/bin/env python3
"""Writes the frames of wire/vectors as the fuzzer's first corpus."""

import json
import re
from pathlib import Path

here = Path(__file__).resolve().parent
corpus = here / "corpus" / "stream"
corpus.mkdir(parents=True, exist_ok=True)
for name in ("requests", "replies", "pushes", "invalid"):
    for number, vector in enumerate(json.loads((here / "../vectors" / f"{name}.json").read_text())):
        runs = re.sub(r"\((..)\*(\d+)\)", lambda run: run[1] * int(run[2]), vector["hex"])
        (corpus / f"{name}-{number}").write_bytes(bytes.fromhex(runs))
