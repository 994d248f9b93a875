#!/usr/bin/env python3
"""mutate.py OUT [--seed N] [--random N] [--kind KIND]…

Writes documents, one to a file, that differ in one or two places from documents that touch every field of the kinds
of the Gateway API that gapi serves. The same seed gives the same documents. What an API server says of them is asked
elsewhere (compare.py); nothing here knows a rule.
"""
import argparse
import copy
import os
import random

from documents import BASES, STRINGS


class Raw(str):
    """Text that is written as it is: `080`, `"80"`, `!!int 80`."""


class Key(str):
    """A key that does not compare equal to its text, so that a map can hold it twice."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


INTEGERS = [-1, 0, 1, 2, 8, 99, 100, 101, 301, 302, 304, 308, 399, 400, 599, 600, 65535, 65536, 1000000, 1000001,
            2147483647, 2147483648, 9223372036854775807]
RAWS = [Raw(text) for text in (
    "080", "0100", "0o100", "0x50", "0b1010", "8_0", "1_", "+80", "80.", "80.0", "8e1", "800e-1", "!!int \"80\"",
    "!!float 80", "80.5", "\"80\"", "1:20", "!!int 80.0", "3.02e2", "12:30:45", "2001-01-01", "=", "<<", "Infinity",
    "1e", "0b", "1e3", ".5", "1_000", "+1", "y", "N", "on", "Off", "tRuE", "nULL", "~", "Null", ".inf", ".nan",
    "18446744073709551615", "18446744073709551616", "-0", "-0.0", "1e21", "1e400", "!local 80", "!!str 80", "! 80",
    "!!binary aGk=", "!!null x", "!!bool yes", "!!timestamp 2001-01-01", "|\n  block\n", ">-\n  folded\n  text", "'it''s'",
    "\"\\u00e9\"", "\"\\/\"", "\"\\ud834\\udd1e\"", "&anchor x", "*nowhere", "[a, b,]", "{a: b,}", "{a, b}", "[a: b]",
    "\"tab\\tinside\"", "plain # comment", "a: b", "- a", "? a", "@a", "`a", "%a", "!<tag:yaml.org,2002:str> 1", "[]", "{}",
    "{<<: {a: b}}", "{1: a, '1': b}", "{1: a, 01: b}", "{null: a}", "{[a]: b}", "{true: a, on: b}", "{1.5: a}",
    "\"a\n  b\"", "0o8", "0x", "1__0", "-0x10", "0B11", "1.e3", "+.5", "-.5e-3", "0.1e+1", "1e+", "--1", "+-1", "0b+1")]
WRONG = [None, True, 5, 80.5, "x", "", [], {}, ["x"], {"x": "y"}, [None], [[]], [{}]]
SIZES = [0, 2, 5, 8, 9, 10, 16, 17, 32, 33, 64, 65]
LENGTHS = [62, 63, 64, 65, 252, 253, 254, 255, 256, 257, 1024, 1025, 4096, 4097]


def emit(value, indent=0):
    """Block YAML."""
    pad = "  " * indent
    if isinstance(value, Raw):
        return " " + value.replace("\n  ", "\n" + pad + "  ") + "\n"
    if isinstance(value, dict) and value:
        return "\n" + "".join(f"{pad}{key if isinstance(key, (Key, Raw)) else scalar(key)}:{emit(item, indent + 1)}"
                              for key, item in value.items())
    if isinstance(value, list) and value:
        return "\n" + "".join(f"{pad}-{emit(item, indent + 1)}" for item in value)
    return " " + scalar(value) + "\n"


def scalar(value):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        plain = value and all(c.isalnum() and c.isascii() or c in "-./" for c in value) and value[0].isalpha()
        if plain and value.lower() not in ("y", "n", "yes", "no", "on", "off", "true", "false", "null"):
            return value
        out = []
        for c in value:
            code = ord(c)
            if c in "\"\\":
                out.append("\\" + c)
            elif code < 0x20 or code == 0x7f:
                out.append(f"\\x{code:02x}")
            else:
                out.append(c)
        return '"' + "".join(out) + '"'
    if value == [] or value == {}:
        return "[]" if value == [] else "{}"
    return repr(value)


def paths(value, at=()):
    """Every place of a document with its value."""
    yield at, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, at + (key,))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if item not in value[:index]:
                yield from paths(item, at + (index,))


def parent(document, at):
    for step in at[:-1]:
        document = document[step]
    return document


def edits(at, value, strings):
    """Changes of one place, each a function on a copy of the document."""
    def put(new):
        return lambda document: parent(document, at).__setitem__(at[-1], copy.deepcopy(new))

    if at:
        yield lambda document: parent(document, at).pop(at[-1])
        for wrong in WRONG:
            yield put(wrong)
        if isinstance(at[-1], str):
            yield lambda document: parent(document, at).__setitem__(Key(at[-1]), copy.deepcopy(value))
            yield lambda document: rename(parent(document, at), at[-1], at[-1] + "z")
            yield lambda document: rename(parent(document, at), at[-1], at[-1][:1].swapcase() + at[-1][1:])
    if isinstance(value, dict):
        def add(document):
            target = document
            for step in at:
                target = target[step]
            target["unknown"] = None
        yield add
    if isinstance(value, list) and at:
        for size in SIZES:
            yield put([copy.deepcopy(value[i % len(value)]) for i in range(size)] if value else [])
            yield put([vary(value[i % len(value)], i) for i in range(size)] if value else [])
        yield put(value + [None])
    if isinstance(value, int) and at:
        for number in INTEGERS:
            yield put(number)
    if isinstance(value, str) and at:
        for text in strings:
            yield put(text)
        for length in LENGTHS:
            yield put("a" * length)
            yield put("é" * length)
            yield put((value + "a" * length)[:length])
    if at and not isinstance(value, (dict, list)):
        for raw in RAWS:
            yield put(raw)


PIECES = list("abz09 \t\n\r:-?,[]{}#&*!|>'\"%@`~<=./\\_+") + [
    ": ", " #", "- ", "\n  ", "\n- ", "---\n", "\n---\n", "...\n", "\n...\n", "\r\n", "!!str ", "!!int ", "&a ", "*a", "<<: ",
    "\ufeff", "\u0085", "\u2028", "\u00e9", "\x07", "\x7f", "? ", "|-\n  ", ">\n ", "\"\"", "''", "[]", "{}", "%YAML 1.1\n---\n",
    "%YAML 1.2\n---\n", "%FOO\n", "%TAG ! tag:x,2000:\n---\n", "\\x41", "\\u0041", "\\U0001F600", "\\/", "\\ud834"]


def scramble(text):
    """A few changes of the text itself."""
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        at = random.randrange(len(text) + 1)
        lines = text.split("\n")
        line = random.randrange(len(lines))
        match random.randrange(8):
            case 0 | 1 | 2:
                text = text[:at] + random.choice(PIECES) + text[at:]
            case 3:
                text = text[:at] + text[at + random.choice([1, 1, 2, 5]):]
            case 4:
                text = text[:at] + random.choice(PIECES) + text[at + 1:]
            case 5:
                lines[line] = random.choice([" ", "  ", "\t", "    "]) + lines[line]
                text = "\n".join(lines)
            case 6:
                lines[line] = lines[line].removeprefix(random.choice([" ", "  "]))
                text = "\n".join(lines)
            case 7:
                other = random.randrange(len(lines))
                lines.insert(other, lines[line])
                text = "\n".join(lines)
    return text


def vary(value, number):
    """An item like `value` that is told apart by its names and numbers."""
    value = copy.deepcopy(value)
    if isinstance(value, str):
        return f"{value}-{number}" if value[:1].isalpha() else value
    if isinstance(value, int) and not isinstance(value, bool):
        return value + number
    if isinstance(value, dict):
        for key in ("name", "port"):
            if key in value:
                value[key] = vary(value[key], number)
    return value


def rename(target, old, new):
    items = [(new if key == old else key, item) for key, item in target.items()]
    target.clear()
    target.update(items)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("out")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--random", type=int, default=0, help="this many documents with two random changes instead")
    arguments.add_argument("--kind", action="append")
    arguments.add_argument("--text", action="store_true", help="change the text as well")
    arguments.add_argument("--every", type=int, default=1, help="write every nth only")
    options = arguments.parse_args()
    os.makedirs(options.out, exist_ok=True)
    random.seed(options.seed)
    bases = [base for base in BASES if not options.kind or base["kind"] in options.kind]
    count = 0

    def write(base, document):
        nonlocal count
        count += 1
        if count % options.every == 0:
            with open(os.path.join(options.out, f"{base['kind']}-{count:06}.yaml"), "w", newline="") as file:
                text = emit(document).lstrip("\n")
                file.write(scramble(text) if options.text else text)

    if options.random:
        for _ in range(options.random):
            base = random.choice(bases)
            document = copy.deepcopy(base)
            for _ in range(0 if options.text else random.choice([1, 2, 2, 3])):
                at, value = random.choice(list(paths(document))[1:])
                try:
                    random.choice(list(edits(at, value, STRINGS)))(document)
                except (KeyError, IndexError, TypeError):
                    pass
            write(base, document)
    else:
        for base in bases:
            write(base, base)
            for at, value in paths(base):
                for edit in edits(at, value, STRINGS):
                    document = copy.deepcopy(base)
                    edit(document)
                    write(base, document)
    print(count // options.every, "documents")


if __name__ == "__main__":
    main()
