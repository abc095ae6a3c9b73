"""Prints the verdicts of a JUnit file: junit.py UNIT FILE

A line for each test, "passed UNIT: NAME" or "failed UNIT: NAME"; what was skipped is left out.
"""

import sys
import xml.etree.ElementTree as ElementTree

unit, path = sys.argv[1:]
for case in ElementTree.parse(path).iter("testcase"):
    outcomes = {child.tag for child in case}
    if "skipped" not in outcomes:
        verdict = "failed" if outcomes & {"failure", "error"} else "passed"
        print(verdict, f"{unit}: {case.get('name')}")
