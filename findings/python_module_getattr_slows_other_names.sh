#!/bin/sh
# CPython 3.11 to 3.13: a module that has a __getattr__ (PEP 562) makes each use of its other names slower, too.
#
# The function is called for names that are not there only. But where it exists, the interpreter does not specialise `module.name`
# in code that is run often: it stays a look-up in type and dictionary, about 15 ns more for each use of a function that
# is there (42 and 57 ns for a call of an empty function on 3.11.7, 3.12.1 and 3.13.0). Taken away before the code has run
# often, it costs nothing. So a package that imports its names lazily pays for that in each of its calls.
#
# Seen, with the interpreter that runs this: with __getattr__: no LOAD_*_MODULE; without, or taken away in time: LOAD_*_MODULE
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/program.py" <<'PYTHON'
import dis
import sys
import types

assert (3, 11) <= sys.version_info < (3, 14), "seen on 3.11 to 3.13"


def specialised(with_function, then_without=False):
    module = types.ModuleType("module")
    module.there = lambda: None
    if with_function:
        module.__getattr__ = lambda name: None
    if then_without:
        del module.__getattr__
    names = {"module": module}
    exec("def use():\n    for _ in range(1000):\n        module.there()", names)
    use = names["use"]
    use()
    use()
    return any(each.opname.endswith("_MODULE") and each.opname.startswith("LOAD") and "GLOBAL" not in each.opname
               for each in dis.get_instructions(use, adaptive=True))


assert specialised(with_function=False)
assert not specialised(with_function=True), "it is specialised now"
assert specialised(with_function=True, then_without=True)
print(sys.version.split()[0], "does not specialise module.there where the module has a __getattr__")
PYTHON
python3 "$folder/program.py"
