#!/usr/bin/env python3
"""corpus.py ORACLE DIR OUT [--per N]

Chooses, out of a folder of documents, a few for each reason that an API server (ORACLE, see compare.py) gives, and
writes them with the verdict to OUT/<kind>.txt: what tests/admission.rs holds gapi to.
"""
import argparse
import collections
import json
import os
import random
import re
import subprocess

from compare import WANTED, fields


def reason(kind, verdict):
    """What the verdict turns on, without the values: the last field of the path and the constraint."""
    if verdict["verdict"] == "accept":
        return kind, "accept"
    error = verdict["errors"][0]
    field = error.get("field", "")
    leaf = re.sub(r"\[[^]]*\]|\d+", "", field).split(".")[-1]
    text = (error.get("rule") or re.sub(r"[\"'`].*", "", error["message"])).split(" ")[-1]
    return "" if field.startswith("metadata") else kind, error["stage"], leaf, text


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("oracle")
    arguments.add_argument("folder")
    arguments.add_argument("out")
    arguments.add_argument("--per", type=int, default=1)
    arguments.add_argument("--accepted", type=int, default=60)
    options = arguments.parse_args()
    random.seed(1)
    verdicts = json.loads(subprocess.run([options.oracle, options.folder], capture_output=True).stdout)
    chosen = collections.defaultdict(list)
    taken = collections.Counter()
    files = sorted(verdicts)
    random.shuffle(files)
    files.sort(key=lambda file: os.path.getsize(file) // 100)
    for file in files:
        verdict = verdicts[file]
        if verdict["verdict"] == "foreign":
            continue
        kind = os.path.basename(file).split("-")[0]
        why = reason(kind, verdict)
        limit = options.per if verdict["verdict"] == "reject" else options.accepted
        text = open(file).read()
        wanted = any(part in json.dumps(verdict) for part in WANTED)
        if wanted or taken[why] >= limit or len(text) > 6000 or "=====" in text:
            continue
        taken[why] += 1
        field = sorted(fields(verdict))[:1] if verdict["verdict"] == "reject" else []
        chosen[kind].append((" ".join([verdict["verdict"], *field]), text))
    for kind, documents in chosen.items():
        with open(os.path.join(options.out, f"{kind}.txt"), "w") as file:
            for title, text in sorted(documents):
                file.write(f"===== {title}\n{text}")
        print(kind, len(documents))


if __name__ == "__main__":
    main()
