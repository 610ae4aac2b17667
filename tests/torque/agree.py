#!/usr/bin/env python3
"""agree.py RECORDED OURS TOLERATED [FILTER]: which commands of two transcript folders differ though nobody tolerates it.

Uses compare.py's own reading and masks. Commands are paired by their place and their text without job numbers, which
`$(qsub ...)` makes others in each run. Beyond compare.py's masks, what differs between two runs of one and the same
Torque is masked as well: session ids in tables, the minute of a start in a comment, the seconds that a job has left. So
are rows of a job in state T: one that a defect of Torque's qmove left there for ever (case E04) is in all later listings.

TOLERATED: a line without indent is a reason, the indented lines below it are `CASE user$ command`, with * for anything
and N for any number.
A reason that begins with `not compared:` is about commands whose answers cannot be compared; they are left out of the
share. Exit status 0 when at least 97 % of the rest agree whole and every other one is tolerated; entries that differ no
more are told of and fail too."""
import os
import re
import sys

SHARE_MIN = 0.97
here = os.path.dirname(os.path.abspath(__file__))
compare = {}
with open(os.path.join(here, "compare.py")) as source:
    # It ends in a call of its main function, which is for the command line.
    exec(source.read().rsplit("\nmain()", 1)[0], compare)  # noqa: S102

MOMENTARY = [
    (re.compile(pattern, re.M), into)
    for pattern, into in [
        (r"Job started on \w+ \w+ +\d+ at \d\d:\d\d", "Job started on <date>"),
        (r"(Walltime\.Remaining = |<Walltime><Remaining>|<Walltime\.Remaining>)\d+", r"\1<n>"),
        (r"(next_job_number = |net_counter = ).*", r"\1<n>"),
        (r"\b\d+(\.nosuch)", r"<id>\1"),
        (r"(PBS_TASKNUM)=\d+", r"\1=<n>"),
        (r"\S*\.SC\b", "<spool>"),
        (r"walltime \d+ exceeded", "walltime <n> exceeded"),
        # What ran on the node when it last reported, which Torque's nodes do every 45 s.
        (r"(rectime=\d+,jobs=)[^,\n<]*", r"\1<s>"),
        (r"line 1: +\d+ ", "line 1: <pid> "),
        # Session id of the wide table, which moves with its number of digits.
        (r"^(\S+ +\w+ +\w+ +\S+) +\d+ +(\S+ +\S+ +\S+ +(?:--|[\d:]+) [A-Z] )", r"\1 <sid> \2"),
    ]
]


def without_lost(lines):
    """Without rows of jobs in state T, and the lines that -n and -s put below them."""
    is_below = False
    for line in lines:
        is_below = bool(re.match(r"\d+\.hn1 .* T +(batch|[\d:]+)\s*$", line)) or (is_below and re.match(r"\s+--\s*$", line))
        if not is_below:
            yield line


def masked(lines):
    text = "\n".join(without_lost(lines))
    for pattern, into in MOMENTARY:
        text = pattern.sub(into, text)
    return compare["mask"](text.split("\n"))


def numberless(command):
    return re.sub(r"((?<![A-Za-z0-9])|(?<=\.[oe]))\d+", "N", command)


def paired(recorded, ours):
    """Pairs of a recorded command and ours; None for one that we did not run."""
    ours = list(ours)
    for one in recorded:
        for at, other in enumerate(ours):
            if numberless(other[0]) == numberless(one[0]):
                yield one, ours.pop(at)
                break
        else:
            yield one, None


def read_tolerated(path):
    entries, reason = [], None
    for line in open(path):
        line = line.rstrip("\n")
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            reason = line
            continue
        case, command = line.strip().split(" ", 1)
        assert reason, f"{line!r} has no reason"
        entries.append({"case": case, "command": command, "reason": reason, "used": False})
    return entries


def is_meant(entry, case, command):
    # Brackets are letters here, only * is a pattern.
    pattern = re.escape(entry["command"]).replace(r"\*", ".*")
    forms = (command, numberless(command))
    return entry["case"] == case and any(re.fullmatch(pattern, form, re.S) for form in forms)


def show(case, one, other):
    status = "not run" if other is None else f"exit {one[3]} / {other[3]}"
    print(f"--- {case}: {one[0]}  ({status})")
    if other is None:
        return
    for part in (1, 2):
        theirs, mine = masked(one[part]).split("\n"), masked(other[part]).split("\n")
        for line in compare["difflib"].unified_diff(theirs, mine, lineterm="", n=0):
            if not line.startswith(("---", "+++", "@@")):
                print("   ", line)


def main():
    recorded, ours, tolerated = sys.argv[1], sys.argv[2], read_tolerated(sys.argv[3])
    wanted = sys.argv[4] if len(sys.argv) > 4 else ""
    commands = agreeing = intolerable = 0
    for name in sorted(os.listdir(recorded)):
        if not name.endswith(".txt") or not name.startswith(wanted):
            continue
        case = name[: -len(".txt")]
        path = os.path.join(ours, name)
        mine = compare["parse"](path) if os.path.exists(path) else []
        # Exit status 124: the recorded command hung.
        theirs = [one for one in compare["parse"](os.path.join(recorded, name)) if one[3] != 124]
        for one, other in paired(theirs, mine):
            entries = [entry for entry in tolerated if is_meant(entry, case, one[0])]
            if any(entry["reason"].startswith("not compared:") for entry in entries):
                continue
            commands += 1
            if other and (masked(one[1]), masked(one[2]), one[3]) == (masked(other[1]), masked(other[2]), other[3]):
                agreeing += 1
                continue
            for entry in entries:
                entry["used"] = True
            if not entries:
                intolerable += 1
                show(case, one, other)
    stale = [e for e in tolerated if not e["used"] and not e["reason"].startswith("not compared:") and not wanted]
    for entry in stale:
        print(f"tolerated, but does not differ: {entry['case']} {entry['command']}")
    share = agreeing / max(commands, 1)
    print(f"{agreeing} of {commands} commands agree whole ({100 * share:.1f} %); {intolerable} differ and are not tolerated")
    sys.exit(0 if not intolerable and not stale and (wanted or share >= SHARE_MIN) else 1)


main()
