#!/usr/bin/env python3
"""core_corpus.py GAPI ORACLE OUT

Chooses, out of what core_mutate.py writes, the shortest document for each reason that an API server (ORACLE, see
compare.py) gives, and some that it accepts; writes them with verdict and field to OUT/<kind>.txt. Documents on which
GAPI and the server differ are passed over: those that differ on purpose stand in own-core.txt, written by hand.
"""
import collections
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

import core_mutate
from compare import fields, gapi
from mutate import emit

ACCEPTED = 8

# A path through fields and lists only: how a key of the user's choice is written in a path is no matter of admission.
PLAIN = re.compile(r"(?!.*(selector|[dD]ata|deprecatedTopology)\W)[a-zA-Z]+(\.[a-zA-Z]+|\[\d+\])*")


def reason(verdict, title):
    """What the verdict turns on, without the values; for an accepted document the place where it was changed."""
    if verdict["verdict"] == "accept":
        return "accept", re.sub(r"\d+", "", title.split(" ")[1] if " " in title else "")
    error = verdict["errors"][0]
    if error["stage"] == "invalid":
        return re.sub(r"\d+|\[[^]]*\]", "", error["field"]), re.sub(r"\"[^\"]*\"|[\d.:]+", "", error["message"])[:60]
    of = re.search(r"of type .*?(\[\]|int32|bool|map|string|\w+)|(unknown field|already set|base64|time)", error["message"])
    return error["stage"], of and of.groups()


def readable(text):
    """The document in block style, where it is JSON that holds no key twice."""
    title, _, body = text.partition("\n")
    try:
        document = json.loads(body)
    except ValueError:
        return body
    if json.dumps(document) != json.dumps(json.loads(body, object_pairs_hook=Pairs)):
        return body
    if "metadata" not in title and isinstance(document.get("metadata"), dict):
        document["metadata"] = {"name": "a"}
    return emit(document).lstrip("\n")


class Pairs(dict):
    """A map that does not lose a key that comes twice: it is then unlike any other."""

    def __init__(self, pairs):
        super().__init__(pairs if len(dict(pairs)) == len(pairs) else [("twice", 1)])


def main(program, oracle, out):
    folder = pathlib.Path(tempfile.mkdtemp())
    core_mutate.main(folder / "mutants")
    chosen = collections.defaultdict(list)
    verdicts = json.loads(subprocess.run([oracle, folder / "mutants"], capture_output=True).stdout)
    random.seed(1)
    files = sorted(verdicts)
    random.shuffle(files)
    files.sort(key=lambda file: len(pathlib.Path(file).read_text()) // 100)
    rewritten = folder / "rewritten"
    rewritten.mkdir()
    taken = collections.Counter()
    for file in files:
        verdict = verdicts[file]
        kind = verdict.get("kind")
        if verdict["verdict"] == "foreign" or kind not in core_mutate.KINDS.values():
            continue
        text = pathlib.Path(file).read_text()
        why = kind, reason(verdict, text.split("\n")[0][2:])
        accepted = kind, verdict["verdict"]
        if "metadata" not in str(why) and not taken[why] and (accepted[1] == "reject" or taken[accepted] < ACCEPTED):
            text = readable(text)
            if len(text) < 3000 and "=====" not in text:
                taken[why] += 1
                taken[accepted] += 1
                (rewritten / pathlib.Path(file).name).write_text(text)
    verdicts = json.loads(subprocess.run([oracle, rewritten], capture_output=True).stdout)
    found = gapi(program, rewritten)
    for file, verdict in sorted(verdicts.items()):
        named = [finding["field"] for finding in found[file]]
        if bool(named) != (verdict["verdict"] == "reject"):
            print("passed over", file)
            continue
        both = [field for field in sorted(fields(verdict) & set(named)) or named if PLAIN.fullmatch(field)]
        title = " ".join([verdict["verdict"], *both[:1]])
        chosen[verdict["kind"]].append((title, pathlib.Path(file).read_text()))
    for kind, documents in chosen.items():
        with open(pathlib.Path(out) / f"{kind}.txt", "w") as file:
            for title, text in sorted(documents):
                file.write(f"===== {title}\n{text}")
        print(kind, len(documents))


if __name__ == "__main__":
    main(*sys.argv[1:])
