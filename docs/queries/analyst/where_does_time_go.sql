-- From RFQ to settlement: which segment takes how long, and how often does it end in a refund?
select segment, orders, p50_ms, p95_ms, max_ms, failure_rate
  from transparency.latency_segments
 order by ledger_id, segment_n;
