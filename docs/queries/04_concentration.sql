-- Who earns, and how concentrated it is, by beneficial owner and with both sets of thresholds named.
select h.basis, h.asset, h.owners, h.hhi, h.largest_share, h.guidelines_2023, h.guidelines_2010
  from transparency.payout_hhi h
 order by h.basis, h.asset;

select e.asset, e.unique_earners, e.unique_paid_earners, e.unique_paid_owners, e.active_participants, e.payout_breadth
  from transparency.unique_earners e
 order by e.asset;
