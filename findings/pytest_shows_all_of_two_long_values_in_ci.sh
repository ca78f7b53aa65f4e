#!/bin/sh
# pytest 9.2.0: `assert a == b` of long octets that differ is a report of some ten lines, but with `CI` in the environment one of
# the whole of both, line by line, by `difflib`: for two values of 256 KiB tens of thousands of lines, and minutes of processor
# time. A function in the place of the operator (`assert operator.eq(a, b)`) is shown by the `repr` of its arguments alone.
#
# Seen with 9.2.0, with 2 KiB (the time grows faster than the length):
#     ==, without CI: fewer than 50 lines; ==, with CI: more than 100; eq, with CI: fewer than 50
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pytest==9.2.0"
cat > "$folder/test_octets.py" <<'PYTHON'
from operator import eq

ONE, OTHER = bytes(range(256)) * 8, bytes(reversed(range(256))) * 8


def test_operator():
    assert ONE == OTHER


def test_function():
    assert eq(ONE, OTHER)
PYTHON
lines() {
    ( cd "$folder" && "$@" "$folder/venv/bin/python" -m pytest -q -p no:cacheprovider "test_octets.py::$test" || true ) | wc -l
}
test=test_operator
plain=$(lines env -u CI -u BUILD_NUMBER)
whole=$(lines env CI=true)
test=test_function
function=$(lines env CI=true)
echo "==, without CI: $plain lines; ==, with CI: $whole; eq, with CI: $function"
[ "$plain" -lt 50 ] && [ "$whole" -gt 100 ] && [ "$function" -lt 50 ]
