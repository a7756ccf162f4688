-- Cumulative counters never fall within an attempt; a row in which one does cannot be believed.
create or replace function metering.counters_fell(p_earlier metering.rows, p_later metering.rows) returns boolean
language sql immutable parallel safe as $$
  select coalesce(p_later.kernel_ns < p_earlier.kernel_ns or p_later.wall_ns < p_earlier.wall_ns or p_later.bytes_in < p_earlier.bytes_in
    or p_later.bytes_out < p_earlier.bytes_out or p_later.peak_vram_bytes < p_earlier.peak_vram_bytes
    or p_later.energy_mj < p_earlier.energy_mj or p_later.work_units < p_earlier.work_units, false)
$$;
comment on function metering.counters_fell(metering.rows, metering.rows) is
  'true: a cumulative counter is smaller in the later row. A missing row on either side: false.';
