"""Runs modules of Python's own test suite and prints one line per test, without times: `pytests.py test_math test_re ...`."""
import importlib
import random
import sys
import traceback
import unittest
from test import support


class Lines(unittest.TestResult):
    """Prints each result as it comes."""

    bad = 0

    def say(self, word, test, more=""):
        print(word, test.id(), more, flush=True)

    def fail(self, word, test, error):
        self.bad += 1
        self.say(word, test, "".join(traceback.format_exception(*error)))

    def addSuccess(self, test):
        self.say("ok", test)

    def addSkip(self, test, reason):
        self.say("skip", test, reason)

    def addExpectedFailure(self, test, error):
        self.say("xfail", test)

    def addUnexpectedSuccess(self, test):
        self.bad += 1
        self.say("xpass", test)

    def addError(self, test, error):
        self.fail("ERROR", test, error)

    def addFailure(self, test, error):
        self.fail("FAIL", test, error)

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.fail("FAIL", subtest, error)


def main(names):
    support.use_resources = []
    support.verbose = 0
    lines = Lines()
    support._run_suite = lambda suite: suite.run(lines)
    for name in names:
        random.seed(0)
        module = importlib.import_module("test." + name)
        if hasattr(module, "test_main"):
            # It builds its suites itself and hands each over to run.
            module.test_main()
        else:
            unittest.defaultTestLoader.loadTestsFromModule(module).run(lines)
    return 1 if lines.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
