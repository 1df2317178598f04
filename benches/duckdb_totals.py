"""Dedup and sum of pulses in DuckDB on one thread: the other side of the consume row.

Loads the pulses into memory, says so, then answers each line `run` with the CPU time of the query and its totals.
"""

import json
import sys
import time

import duckdb

database = duckdb.connect(":memory:", config={"threads": 1})
database.execute(
    """
    create table pulses as
    select tenant_id, id, product_sku, use_unit, region, to_timestamp(occurred_at) as occurred_at, used_amount
    from read_csv(?, columns = {
        'tenant_id': 'varchar', 'id': 'varchar', 'product_sku': 'varchar', 'use_unit': 'varchar',
        'region': 'varchar', 'occurred_at': 'bigint', 'used_amount': 'decimal(38,15)'}, header = true)
    """,
    [sys.argv[1]],
)
print(json.dumps({"duckdb": duckdb.__version__}), flush=True)
for line in sys.stdin:
    before = time.process_time_ns()
    database.execute(
        """
        create or replace temp table totals as
        select tenant_id, product_sku, use_unit, region, date_trunc('hour', occurred_at) as hour,
               sum(used_amount) as quantity, count(*) as pulses
        from (select distinct on (tenant_id, id) * from pulses)
        group by all
        """
    )
    used = time.process_time_ns() - before
    quantity, pulses = database.execute("select sum(quantity), sum(pulses) from totals").fetchone()
    print(
        json.dumps({"cpu_nanos": used, "pulses": int(pulses), "steps": int(quantity.scaleb(15))}),
        flush=True,
    )
