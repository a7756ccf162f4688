-- Does the money reach many, or few?
select asset, unique_earners, unique_paid_earners, unique_paid_owners, active_participants, payout_breadth
  from transparency.unique_earners;

select basis, asset, owners, hhi, largest_share, guidelines_2023
  from transparency.payout_hhi
 order by basis, asset;
