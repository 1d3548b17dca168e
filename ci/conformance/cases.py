# Prints, as JSON, the numbers of the suite's cases that edgehold is tried with. Runs under the suite's Python 2.7.
#
# With `all` these are all that there are. With `ordinary`, of sections 12 and 13 (permessage-deflate) only some: each group
# is the same a thousand messages with other parameters of the extension, and 18 cases of a group differ in the sizes of
# messages and fragments only, whose ends and middle are tried. With `secure` these are sections 1 to 10: deflate is the
# same behind a record layer, and long.
import json
import sys

from autobahntestsuite import case
from autobahntestsuite.caseset import CaseSet

SIZES = ["1", "5", "10", "14", "18"]


def ordinary(section, last):
    return section not in (12, 13) or last in SIZES


def secure(section, _last):
    return section <= 10


LEVELS = {"all": lambda _section, _last: True, "ordinary": ordinary, "secure": secure}


def belongs(number, level):
    parts = number.split(".")
    return LEVELS[level](int(parts[0]), parts[-1])


suite = CaseSet(None, case.CaseBasename, case.Cases, case.CaseCategories, case.CaseSubCategories)
cases = suite.parseSpecCases({"cases": ["*"], "exclude-cases": []})
print(json.dumps([number for number in cases if belongs(number, sys.argv[1])]))
