-- Whole minor units, at most 28 digits. NULL for anything else: signs, fractions, exponents, NaN, blanks.
-- The text is judged before any cast, because numeric(28,0) would round a fraction silently.
create or replace function base.parse_amount(p_text text) returns numeric
language sql immutable parallel safe as $$
  select case when p_text ~ '^[0-9]{1,28}$' then p_text::numeric end
$$;
comment on function base.parse_amount(text) is 'Text to whole minor units; NULL unless it is 1 to 28 decimal digits.';
