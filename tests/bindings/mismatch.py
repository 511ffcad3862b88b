"""Importing must fail cleanly with a library of another ABI. Run by check.sh with PONDER_LIBRARY naming such a one."""
import sys

try:
    import ponder
except ImportError as error:
    print("%s: %s" % (type(error).__name__, error))
    sys.exit(0 if type(error).__name__ == "LibraryMismatch" and sys.argv[1] in str(error) else 1)
print("a mismatched library was taken: %s" % ponder)
sys.exit(1)
