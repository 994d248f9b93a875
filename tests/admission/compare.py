#!/usr/bin/env python3
"""compare.py GAPI ORACLE DIR [-v] [--fields]

Compares `GAPI check` with what an API server says (ORACLE: a program that prints file → {verdict, errors}) of each
document of a folder, and prints the disagreements; with --fields also where the two name other fields.
"""
import argparse
import collections
import json
import subprocess
import sys

# Where gapi differs from the server on purpose: a part of the server's message.
WANTED = [
    "already set in map",  # of a merge key, which may be overridden
]


def wanted(verdict, found):
    """gapi takes overridden merge keys, and refuses to make up a name from generateName."""
    if verdict["verdict"] == "accept":
        return all((finding["field"], finding["reason"]) == ("metadata.name", "MissingField") for finding in found)
    return any(part in error["message"] for part in WANTED for error in verdict["errors"])


def gapi(program, folder):
    """file → (refused, fields, messages); the documents are of one name, which is no fault here."""
    report = json.loads(subprocess.run([program, "check", "-o", "json", folder], capture_output=True).stdout)
    found = collections.defaultdict(list)
    for finding in report["findings"]:
        if finding["severity"] == "error" and finding["reason"] != "DuplicateObject":
            found[finding["file"]].append(finding)
    return found


def fields(verdict):
    return {error["field"].removeprefix("<nil>") for error in verdict.get("errors", [])
            if error["stage"] == "invalid" and error.get("rule") != "blocked" and error.get("field")}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("gapi")
    arguments.add_argument("oracle")
    arguments.add_argument("folder")
    arguments.add_argument("--fields", action="store_true")
    arguments.add_argument("--show", type=int, default=40)
    options = arguments.parse_args()
    verdicts = json.loads(subprocess.run([options.oracle, options.folder], capture_output=True).stdout)
    found = gapi(options.gapi, options.folder)
    counts = collections.Counter()
    shown = collections.Counter()
    for file, verdict in sorted(verdicts.items()):
        if verdict["verdict"] == "foreign":
            counts["foreign"] += 1
            continue
        refused = bool(found[file])
        if refused != (verdict["verdict"] == "reject"):
            side = "wanted" if wanted(verdict, found[file]) else "too hard" if refused else "too lax"
        elif options.fields and refused and fields(verdict) - {finding["field"] for finding in found[file]}:
            side = "other fields"
        else:
            side = "same"
        counts[side] += 1
        shown[side] += 1
        if side not in ("same", "wanted") and shown[side] <= options.show:
            print(side, file)
            for error in verdict.get("errors", []):
                print("    server:", error["stage"], error.get("field", ""), error["message"][:200].replace("\n", " "))
            for finding in found[file]:
                print("    gapi:  ", finding["field"], finding["reason"], finding["message"][:200])
    print(dict(counts))
    sys.exit(counts["too hard"] + counts["too lax"] > 0)


if __name__ == "__main__":
    main()
