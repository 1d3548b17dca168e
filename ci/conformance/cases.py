# Prints, as JSON, the numbers of the suite's cases that edgehold is tried with. Runs under the suite's Python 2.7.
#
# With `all` these are all that there are. Without it, of sections 12 and 13 (permessage-deflate) only some: each group
# is the same a thousand messages with other parameters of the extension, and 18 cases of a group differ in the sizes of
# messages and fragments only, whose ends and middle are tried.
import json
import sys

from autobahntestsuite import case
from autobahntestsuite.caseset import CaseSet

SIZES = ["1", "5", "10", "14", "18"]


def ordinary(number):
    parts = number.split(".")
    return parts[0] not in ("12", "13") or parts[-1] in SIZES


suite = CaseSet(None, case.CaseBasename, case.Cases, case.CaseCategories, case.CaseSubCategories)
cases = suite.parseSpecCases({"cases": ["*"], "exclude-cases": []})
print(json.dumps(cases if "all" in sys.argv[1:] else [number for number in cases if ordinary(number)]))
