#!/bin/sh
# CBOR::XS 1.86 (Debian's libcbor-xs-perl): whether a Perl string is written as a byte string or as a text hangs on how Perl happens
# to keep it, not on what is in it: two strings that are equal (`eq`) are written in two ways, and the same ASCII string is octets or
# text. As the key of a hash the same string is octets, unless it has a character over 255. JSON::XS 4.04 writes both alike. So
# a receiver cannot tell octets from text by the type, neither in CBOR nor in JSON.
#
# Seen:
#     value kept as octets: 41e4
#     value kept as characters: 62c3a4
#     key kept as characters: a141e401
#     ascii kept as characters: 63616263
#     json: 5b22c3a4225d 5b22c3a4225d
set -eu
perl -MCBOR::XS -MJSON::XS -e 1 2>/dev/null || { echo "needs the Debian packages libcbor-xs-perl and libjson-xs-perl" >&2; exit 2; }
seen=$(perl -MCBOR::XS -MJSON::XS -e '
    my $octets = "\xe4"; my $characters = "\xe4"; utf8::upgrade $characters; die unless $octets eq $characters;
    my $ascii = "abc"; utf8::upgrade $ascii;
    sub shown { printf "%s: %s\n", shift, join " ", map unpack ("H*", $_), @_ }
    shown "value kept as octets", encode_cbor $octets;
    shown "value kept as characters", encode_cbor $characters;
    shown "key kept as characters", encode_cbor {$characters => 1};
    shown "ascii kept as characters", encode_cbor $ascii;
    shown "json", encode_json ([$octets]), encode_json ([$characters]);
')
expected="value kept as octets: 41e4
value kept as characters: 62c3a4
key kept as characters: a141e401
ascii kept as characters: 63616263
json: 5b22c3a4225d 5b22c3a4225d"
echo "$seen"
[ "$seen" = "$expected" ]
