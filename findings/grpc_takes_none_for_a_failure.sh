#!/usr/bin/env bash
# grpcio 1.85.3 (gRPC's Python), a method without generated code, whose (de)serializers are functions of one's own.
# A good engineer would guess: what a deserializer returns is the request, whatever it is; only an exception is a failure.
# It takes None for the sign of a failure, on both sides: a request that means None (msgpack's nil, JSON's null) never reaches the
# method, and a result that means None never its caller, who gets INTERNAL, "Exception deserializing …!", although nothing raised.
# Seen with Python 3.11:
#   0 -> 0
#   None -> INTERNAL: Exception deserializing request!
#   a method that returns None -> INTERNAL: Exception deserializing response!
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.3 msgpack==1.1.1
cat > "$folder/show.py" << 'PROGRAM'
from concurrent.futures import ThreadPoolExecutor

import grpc
import msgpack

coding = {"request_deserializer": msgpack.unpackb, "response_serializer": msgpack.packb}
methods = {
    "echo": grpc.unary_unary_rpc_method_handler(lambda request, _: request, **coding),
    "nothing": grpc.unary_unary_rpc_method_handler(lambda request, _: None, **coding),
}
server = grpc.server(ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shown", methods),))
number = server.add_insecure_port("127.0.0.1:0")
server.start()


def said(name, request):
    with grpc.insecure_channel(f"127.0.0.1:{number}") as channel:
        call = channel.unary_unary(
            f"/shown/{name}", request_serializer=msgpack.packb, response_deserializer=msgpack.unpackb
        )
        try:
            return repr(call(request, timeout=20))
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"


print("0 ->", said("echo", 0))
print("None ->", said("echo", None))
print("a method that returns None ->", said("nothing", 0))
server.stop(None).wait()
PROGRAM
"$folder/venv/bin/python" "$folder/show.py" > "$folder/seen" 2> /dev/null
cat "$folder/seen"
diff "$folder/seen" - << 'EXPECTED'
0 -> 0
None -> INTERNAL: Exception deserializing request!
a method that returns None -> INTERNAL: Exception deserializing response!
EXPECTED
