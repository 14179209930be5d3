"""conformance.py full|limited FOLDER: judges a report of Autobahn's suite, whatever the suite's own verdict on limits.

full: 301 cases, none of which may fail. limited: a case may only fail by the server's close code 1009 (message too
big) or 1008 (too many fragments), and only the limits and performance cases (9.*) and those with large messages may."""

import collections
import json
import pathlib
import sys

BAD = {"FAILED", "WRONG CODE", "UNCLEAN", "FAILED BY CLIENT"}
mode, folder = sys.argv[1], pathlib.Path(sys.argv[2])
cases = json.loads((folder / "index.json").read_text())["gateway"]
verdicts = collections.Counter(case["behavior"] for case in cases.values())
failed, limited = [], collections.Counter()
for name, case in sorted(cases.items()):
    if case["behavior"] not in BAD and case["behaviorClose"] not in BAD:
        continue
    report = json.loads((folder / case["reportfile"]).read_text())
    code = report["remoteCloseCode"]
    if mode == "limited" and code in (1008, 1009) and report["wasClean"]:
        limited[code] += 1
    else:
        failed.append(f"{name}: {case['behavior']}, {case['behaviorClose']}, close code {code}")
print(f"conformance ({mode}): {len(cases)} cases, {dict(verdicts)}, clean closes {dict(limited)}, {len(failed)} failed")
print("\n".join(failed))
if mode == "limited" and not limited:
    failed.append("no case met a limit")
sys.exit(1 if failed or len(cases) != 301 else 0)
