-- Where the time goes between an RFQ and its settlement, in milliseconds of ledger time, and how often it fails.
select l.segment, l.orders, l.p50_ms, l.p95_ms, l.max_ms, l.failure_rate
  from transparency.latency_segments l
 order by l.ledger_id, l.segment_n;
