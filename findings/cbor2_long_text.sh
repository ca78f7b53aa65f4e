#!/bin/sh
# cbor2 6.1.0: `load` and CBORDecoder(stream) read a string of more than 65,536 bytes wrongly: what comes before it in the stream is
# taken for its first bytes. So a text has too many characters, or is no UTF-8 any more (CBORDecodeError, "error decoding text
# string"), and a byte string has too many octets, without any error. `loads` of the same data is right, and so are `load` of
# 5.9.0 and 6.3.0.
#
# Seen with 6.1.0 (5.9.0 and 6.3.0: four times 70000):
#     stream, text alone: 70005 characters
#     stream, text in an array: CBORDecodeError
#     bytes, text in an array: 70000 characters
#     stream, octets in an array: 70006 octets
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 5.9.0 6.1.0 6.3.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "cbor2==$version"
    "$folder/$version/bin/python" - "$version" <<'PYTHON'
import io
import sys

import cbor2

version = sys.argv[1]
text, octets = "x" * 70_000, b"x" * 70_000


def length(decode):
    try:
        value = decode()
    except cbor2.CBORDecodeError as error:
        return type(error).__name__
    return len(value[0] if isinstance(value, list) else value)


seen = {
    "stream, text alone": length(lambda: cbor2.load(io.BytesIO(cbor2.dumps(text)))),
    "stream, text in an array": length(lambda: cbor2.load(io.BytesIO(cbor2.dumps([text])))),
    "bytes, text in an array": length(lambda: cbor2.loads(cbor2.dumps([text]))),
    "stream, octets in an array": length(lambda: cbor2.load(io.BytesIO(cbor2.dumps([octets])))),
}
print(version, seen)
wanted = dict.fromkeys(seen, 70_000)
if version == "6.1.0":
    wanted["stream, text alone"] = 70_005
    wanted["stream, text in an array"] = "CBORDecodeError"
    wanted["stream, octets in an array"] = 70_006
assert seen == wanted, "changed"
PYTHON
done
