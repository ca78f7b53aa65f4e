#!/bin/sh
# cbor2 6.0.0: in a map or an array that is itself a value of a map, maps come as `frozendict` and arrays as tuples, as if they had
# to be hashable; but the first item of such an array does not. A `frozendict` equals the dict, so some comparisons hold; a tuple
# equals no list, and neither is a dict or a list for `isinstance`. 5.9.0, 6.0.1 and 6.3.0 give dicts and lists throughout.
#
# Seen with 6.0.0 (the others: {'map': {'map': {}, 'list': []}} and {'list': [{}, {}, []]}, of dicts and lists):
#     {'map': {'map': frozendict({}), 'list': ()}} {'list': [{}, frozendict({}), ()]}
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 5.9.0 6.0.0 6.0.1 6.3.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "cbor2==$version"
    "$folder/$version/bin/python" - "$version" <<'PYTHON'
import sys

import cbor2

version = sys.argv[1]

values = [{"map": {"map": {}, "list": []}}, {"list": [{}, {}, []]}]
shown = " ".join(repr(cbor2.loads(cbor2.dumps(value))) for value in values)
print(version, shown)
wanted = " ".join(map(repr, values))
if version == "6.0.0":
    wanted = "{'map': {'map': frozendict({}), 'list': ()}} {'list': [{}, frozendict({}), ()]}"
assert shown == wanted, "changed"
PYTHON
done
