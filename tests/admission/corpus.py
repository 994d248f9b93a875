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


def reason(verdict):
    """What the verdict turns on, without the values."""
    if verdict["verdict"] == "accept":
        return None
    error = verdict["errors"][0]
    text = error.get("rule") or re.sub(r"[\"'`].*", "", error["message"])
    return error["stage"], re.sub(r"\d+|\[[^]]*\]", "", error.get("field", "")), text[:80]


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
    for file in files:
        verdict = verdicts[file]
        kind = os.path.basename(file).split("-")[0]
        why = kind, reason(verdict)
        limit = options.per if verdict["verdict"] == "reject" else options.accepted
        text = open(file).read()
        wanted = any(part in json.dumps(verdict) for part in WANTED)
        if verdict["verdict"] == "foreign" or wanted or taken[why] >= limit or len(text) > 6000 or "=====" in text:
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
