-- Erasure: personal data and contents can be removed from their stores, and everything signed still holds.

insert into base.rules_versions values
  (3, 'post_transfers neither closes what refunds and payouts need nor takes one side of an exchange back') on conflict do nothing;
