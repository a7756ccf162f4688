//! Erasing contents: what may go, what stays and with whom, and that the log says so by hash and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use ledger::Reader;
use ledger::artifacts::{self, Action, Planned, Subject};
use ledger::house::Hand;
use proto::ids::{AgentId, ArtifactHash, OrderId};
use proto::v1::{ErasureSubject, KeyPurpose};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::checks::{changed, domain_digest, rows, superuser, verified};
use crate::support::kinds::{self, OUTPUT};
use crate::support::market::{Market, Order, id_of};
use crate::support::party::{LEDGER, Party};

fn reader(market: &Market) -> Reader {
    Reader::new(market.db.config("econ_api"), 1).unwrap()
}

fn operator(market: &Market) -> AgentId {
    market.pipeline.house().agent(Hand::Operator)
}

/// The input that orders of these tests name.
async fn input(market: &Market, order: &Order) -> [u8; 32] {
    let sql =
        format!("select encode(input_hash, 'hex') from market.orders where order_id = '{}'", order.order);
    *market.text(&sql).await.parse::<ArtifactHash>().unwrap().as_bytes()
}

/// A command is refused with this code, and nothing but the log has changed.
async fn refused(market: &Market, kind: proto::v1::command_body::Kind, code: &str) -> String {
    let before = domain_digest(&market.admin).await;
    let answer = market.hand(Hand::Operator, kind).await;
    assert_eq!(answer.code, code, "{}", answer.facts);
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    answer.message()
}

#[tokio::test]
async fn nothing_is_erased_while_an_order_is_live_or_disputed() {
    let market = Market::start().await;
    let (buyer, provider) = (id_of(&market.buyer), id_of(&market.provider));
    let reader = reader(&market);
    let orders = [
        ("ordered", market.ordered().await),
        ("running", market.running().await),
        ("reported", market.reported().await),
        ("disputed", market.disputed().await),
        ("accepted", market.accepted().await),
    ];
    for (state, order) in orders {
        let items = [(input(&market, &order).await, None)];
        for (kind, subject) in [
            (ErasureSubject::Order, Some(order.order)),
            (ErasureSubject::Agent, Some(buyer)),
            (ErasureSubject::Agent, Some(provider)),
            (ErasureSubject::Artifact, None),
        ] {
            let said = refused(&market, kinds::erase(kind, subject, &items), "UM608").await;
            if kind == ErasureSubject::Order {
                assert!(said.contains(state), "{said}");
            }
        }
        // Whoever only asks is told the same.
        let subject = Subject::Order(OrderId::from_uuid(order.order));
        let planned = artifacts::plan_erasure(&reader, operator(&market), LEDGER, subject, None).await;
        assert_eq!(planned.unwrap_err().code, "UM608", "{state}");
    }
    // An order of somebody else's needs it just as well.
    let other = Party::new("another buyer", KeyPurpose::Buyer);
    other.register(&market.pipeline).await;
    let items = [(OUTPUT, None)];
    let said =
        refused(&market, kinds::erase(ErasureSubject::Agent, Some(id_of(&other)), &items), "UM608").await;
    assert!(said.contains("names one of these artifacts"), "{said}");
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn an_erasure_that_is_malformed_or_of_nobody_or_not_the_operators_is_refused() {
    let market = Market::start().await;
    let order = market.settled().await;
    let hash = input(&market, &order).await;
    let one = [(hash, None)];
    let nobody = market.id();
    for (kind, code) in [
        (kinds::erase(ErasureSubject::Order, Some(nobody), &one), "UM403"),
        (kinds::erase(ErasureSubject::Agent, Some(nobody), &one), "UM405"),
        (kinds::erase(ErasureSubject::Order, None, &one), "UM101"),
        (kinds::erase(ErasureSubject::Agent, None, &one), "UM101"),
        (kinds::erase(ErasureSubject::Artifact, Some(order.order), &one), "UM101"),
        (kinds::erase(ErasureSubject::Order, Some(order.order), &[]), "UM101"),
        (kinds::erase(ErasureSubject::Order, Some(order.order), &[one[0], one[0]]), "UM101"),
    ] {
        refused(&market, kind, code).await;
    }
    let asked = market.asked().await;
    let of_buyer = || kinds::erase(ErasureSubject::Agent, Some(id_of(&market.buyer)), &one);
    assert!(refused(&market, of_buyer(), "UM608").await.contains(&asked.rfq.to_string()));
    market.must(&market.buyer, kinds::cancel_rfq(asked.rfq)).await;
    for hand in [Hand::Service, Hand::Verifier] {
        let answer = market.hand(hand, of_buyer()).await;
        assert_eq!(answer.code, "UI301", "{}", answer.facts);
    }
    for actor in [AgentId::from_uuid(id_of(&market.provider)), market.pipeline.house().agent(Hand::Service)] {
        let subject = Subject::Agent(AgentId::from_uuid(id_of(&market.buyer)));
        let planned = artifacts::plan_erasure(&reader(&market), actor, LEDGER, subject, None).await;
        assert_eq!(planned.unwrap_err().code, "UB302");
    }
    let answer = market.hand_must(Hand::Operator, of_buyer()).await;
    assert_eq!((answer.subject_kind.as_str(), answer.subject_id), ("agent", id_of(&market.buyer)));
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn an_agent_erases_its_own_uploads_and_nothing_else_and_is_told_nothing_of_others() {
    let market = Market::start().await;
    let order = market.settled().await;
    let (input, live) = (input(&market, &order).await, market.ordered().await);
    let (buyer, provider, payee) = (id_of(&market.buyer), id_of(&market.provider), id_of(&market.payee));
    let (agent, order_kind, artifact) =
        (ErasureSubject::Agent, ErasureSubject::Order, ErasureSubject::Artifact);
    let other = Party::new("another buyer", KeyPurpose::Buyer);
    other.register(&market.pipeline).await;
    let me = id_of(&other);
    for (kind, code) in [
        // Not itself; not its own upload; everybody's; an order; the bytes as such.
        (kinds::erase(agent, Some(buyer), &[(input, Some(buyer))]), "UM304"),
        (kinds::erase(agent, Some(me), &[(input, Some(buyer))]), "UM304"),
        (kinds::erase(agent, Some(me), &[([1; 32], Some(me)), (input, Some(provider))]), "UM304"),
        (kinds::erase(agent, Some(me), &[(input, None)]), "UM304"),
        (kinds::erase(order_kind, Some(order.order), &[(input, Some(me))]), "UM304"),
        (kinds::erase(artifact, None, &[(input, None)]), "UM304"),
        (kinds::erase(artifact, None, &[(input, Some(me))]), "UM304"),
    ] {
        let before = domain_digest(&market.admin).await;
        let answer = market.send(&other, kind).await;
        assert_eq!(answer.code, code, "{}", answer.facts);
        assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    }
    // Its own goes, though a stranger's live order names the same bytes: of that it hears nothing.
    let named = *live_input(&market, &live).await.as_bytes();
    let answer = market.must(&other, kinds::erase(agent, Some(me), &[(named, Some(me))])).await;
    assert_eq!((answer.subject_kind.as_str(), answer.subject_id), ("agent", me));
    assert_eq!(answer.facts_json()["items"], 1);
    // Whoever has a live order must wait, whichever side it is on.
    for party in [&market.buyer, &market.provider] {
        let own = kinds::erase(agent, Some(id_of(party)), &[(named, Some(id_of(party)))]);
        let answer = market.send(party, own).await;
        assert!(
            answer.code == "UM608" && answer.message().contains(&live.order.to_string()),
            "{}",
            answer.facts
        );
    }
    market.must(&market.payee, kinds::erase(agent, Some(payee), &[(input, Some(payee))])).await;
    let told = "select count(*) from artifacts.erasures where agent_id is null or agent_id <> subject_id";
    assert_eq!(market.count(told).await, 0);
    market.pipeline.shutdown().await;
    verified(&market).await;
}

async fn live_input(market: &Market, order: &Order) -> ArtifactHash {
    ArtifactHash::from_bytes(input(market, order).await)
}

/// A world of agents, orders and uploads, made of a seed and written past all guards: there are more kinds of it than a test
/// could trade for.
struct World {
    agents: Vec<Uuid>,
    hashes: Vec<[u8; 32]>,
    /// Buyer, provider, input, output, live.
    orders: Vec<(usize, usize, usize, Option<usize>, bool)>,
    /// Who holds what.
    uploads: BTreeSet<(usize, usize)>,
    /// Buyer and input of open RFQs.
    rfqs: Vec<(usize, usize)>,
}

fn drawn(seed: u64, what: &str, n: usize, below: usize) -> usize {
    let hash = blake3::hash(format!("{seed}/{what}/{n}").as_bytes());
    usize::try_from(u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap()) % below as u64).unwrap()
}

impl World {
    fn of(seed: u64, agents: Vec<Uuid>) -> World {
        let hashes: Vec<[u8; 32]> = (0..5).map(|n: u8| [n + 1; 32]).collect();
        let (a, h) = (agents.len(), hashes.len());
        let draw = |what: &str, n, below| drawn(seed, what, n, below);
        let orders: Vec<_> = (0..draw("orders", 0, 6))
            .map(|n| {
                let output = (draw("reported", n, 4) > 0).then(|| draw("output", n, h));
                (
                    draw("buyer", n, a),
                    draw("provider", n, a),
                    draw("input", n, h),
                    output,
                    draw("live", n, 5) == 0,
                )
            })
            .filter(|order| order.0 != order.1)
            .collect();
        let mut uploads = BTreeSet::new();
        for (n, (buyer, provider, input, output, _)) in orders.iter().enumerate() {
            // Most hold what they named; some have withdrawn it, or never had it.
            if draw("holds input", n, 5) > 0 {
                uploads.insert((*buyer, *input));
            }
            uploads
                .extend(output.filter(|_| draw("holds output", n, 5) > 0).map(|output| (*provider, output)));
        }
        uploads.extend((0..draw("uploads", 0, 4)).map(|n| (draw("who", n, a), draw("what", n, h))));
        let rfqs = (0..draw("rfqs", 0, 3)).map(|n| (draw("asker", n, a), draw("asked", n, h))).collect();
        World { agents, hashes, orders, uploads, rfqs }
    }

    async fn write(&self, db: &Client) {
        db.batch_execute(
            "truncate market.orders cascade; truncate market.rfqs cascade; truncate artifacts.uploads",
        )
        .await
        .unwrap();
        for (buyer, provider, input, output, live) in &self.orders {
            let (state, closed): (&str, Option<i64>) =
                if *live { ("reported", None) } else { ("settled", Some(1)) };
            db.execute(
                "insert into market.orders (ledger_id, order_id, rfq_id, offer_id, buyer_id, provider_id, provider_key_id, asset_id, \
                   price_per_unit, work_units, held, escrow_account_id, run_ticket_id, input_hash, output_hash, state, ordered_at, \
                   ticket_expires_at, closed_at, paid, refunded, seq, closed_seq) \
                 values (1, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), $1, $2, '', 1, 1, 1, 1, gen_random_uuid(), \
                   gen_random_uuid(), $3, $4, $5, now(), now(), case when $6::bigint is not null then now() end, $6::bigint, \
                   $6::bigint - 1, 1, $6::bigint)",
                &[
                    &self.agents[*buyer],
                    &self.agents[*provider],
                    &self.hashes[*input].as_slice(),
                    &output.map(|output| self.hashes[output].to_vec()),
                    &state,
                    &closed,
                ],
            )
            .await
            .unwrap();
        }
        for (buyer, input) in &self.rfqs {
            db.execute(
                "insert into market.rfqs (ledger_id, rfq_id, buyer_id, work_class, input_hash, work_units, asset_id, max_price, \
                   max_duration_ms, opened_at, expires_at, state, seq) \
                 values (1, gen_random_uuid(), $1, 'gemm.int8', $2, 1, 1, 1, 1, now(), now(), 'open', 1)",
                &[&self.agents[*buyer], &self.hashes[*input].as_slice()],
            )
            .await
            .unwrap();
        }
        for (agent, hash) in &self.uploads {
            let sql = "insert into artifacts.uploads (ledger_id, artifact_hash, agent_id, size_bytes, uploaded_at) values (1, $1, $2, 7, now())";
            db.execute(sql, &[&self.hashes[*hash].as_slice(), &self.agents[*agent]]).await.unwrap();
        }
    }

    fn hash(&self, planned: &Planned) -> usize {
        self.hashes.iter().position(|hash| hash == planned.hash.as_bytes()).unwrap()
    }

    fn is_live(&self, agent: usize) -> bool {
        self.orders.iter().any(|(buyer, provider, _, _, live)| *live && [*buyer, *provider].contains(&agent))
            || self.rfqs.iter().any(|(buyer, _)| *buyer == agent)
    }

    /// A live order names it.
    fn is_ordered(&self, hash: usize) -> bool {
        let by_order = |order: &(usize, usize, usize, Option<usize>, bool)| {
            order.4 && (order.2 == hash || order.3 == Some(hash))
        };
        self.orders.iter().any(by_order)
    }

    /// Or whoever holds it asks with it.
    fn is_needed(&self, hash: usize) -> bool {
        self.is_ordered(hash)
            || self.rfqs.iter().any(|(buyer, input)| *input == hash && self.uploads.contains(&(*buyer, hash)))
    }

    /// Who holds what after a plan has been carried out.
    fn after(&self, plan: &[Planned]) -> BTreeSet<(usize, usize)> {
        let mut left = self.uploads.clone();
        for planned in plan {
            let hash = self.hash(planned);
            match &planned.action {
                Action::Erase => left.retain(|(_, held)| *held != hash),
                Action::Unlink { agent_id, .. } => {
                    let agent = self.agents.iter().position(|id| *id == agent_id.as_uuid()).unwrap();
                    assert!(left.remove(&(agent, hash)), "nothing was unlinked");
                }
                Action::Keep { .. } => {}
            }
        }
        left
    }
}

/// What each agent can read, by its own uploads and its counterparts'.
fn readable(world: &World, uploads: &BTreeSet<(usize, usize)>) -> BTreeSet<(usize, usize)> {
    let mut readable = uploads.clone();
    for (buyer, provider, input, output, _) in &world.orders {
        readable.extend(uploads.contains(&(*buyer, *input)).then_some((*provider, *input)));
        readable.extend(
            output.filter(|output| uploads.contains(&(*provider, *output))).map(|output| (*buyer, output)),
        );
    }
    readable
}

#[tokio::test]
async fn whoever_is_erased_keeps_nothing_and_whoever_is_not_loses_nothing_of_their_own() {
    let market = Market::start().await;
    if !superuser(&market.admin).await {
        return;
    }
    market.pipeline.shutdown().await;
    let reader = reader(&market);
    let db = &market.admin;
    db.batch_execute("set session_replication_role = replica").await.unwrap();
    let sql = "select agent_id::text from identity.agents order by 1 limit 4";
    let agents: Vec<Uuid> = rows(db, sql).await.iter().map(|id| id.parse().unwrap()).collect();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..150 {
        let world = World::of(seed, agents.clone());
        world.write(db).await;
        for (agent, id) in world.agents.iter().enumerate() {
            let subject = Subject::Agent(AgentId::from_uuid(*id));
            let plan = artifacts::plan_erasure(&reader, operator(&market), LEDGER, subject, None).await;
            let plan = match plan {
                Err(error) => {
                    assert_eq!(
                        (error.code.as_ref(), world.is_live(agent)),
                        ("UM608", true),
                        "seed {seed} agent {agent}"
                    );
                    *seen.entry("refused".into()).or_default() += 1;
                    continue;
                }
                Ok(plan) => plan,
            };
            assert!(!world.is_live(agent), "seed {seed} agent {agent}: still live, and planned");
            let left = world.after(&plan);
            let bought =
                |hash: usize| world.orders.iter().any(|order| order.0 == agent && order.3 == Some(hash));
            for planned in &plan {
                let hash = world.hash(planned);
                let what = format!("seed {seed} agent {agent} hash {hash}: {planned:?}");
                assert!(
                    world.uploads.contains(&(agent, hash)) || bought(hash),
                    "not the agent's own: {what}"
                );
                match &planned.action {
                    Action::Keep { reason } if reason == "needed" => assert!(world.is_needed(hash), "{what}"),
                    Action::Keep { .. } => assert!(
                        world.uploads.iter().any(|(other, held)| *held == hash && *other != agent),
                        "{what}"
                    ),
                    // Whoever asks with it keeps its own.
                    Action::Unlink { .. } => assert!(!world.is_ordered(hash), "{what}"),
                    Action::Erase => {
                        let asks = |(buyer, input): &(usize, usize)| {
                            *input == hash && world.uploads.contains(&(*buyer, hash))
                        };
                        assert!(!world.is_ordered(hash) && !world.rfqs.iter().any(asks), "{what}");
                    }
                }
                let kind = match &planned.action {
                    Action::Erase => "erase".to_owned(),
                    Action::Unlink { reason, .. } => format!("unlink {reason}"),
                    Action::Keep { reason } => format!("keep {reason}"),
                };
                *seen.entry(kind).or_default() += 1;
            }
            // The subject holds nothing any more but what a live order needs.
            let kept = left.iter().filter(|(holder, hash)| *holder == agent && !world.is_ordered(*hash));
            assert_eq!(kept.count(), 0, "seed {seed} agent {agent}: {left:?}");
            // Nobody else lost an upload, but for who made it what it bought, and even that sold nothing else by it.
            let gone = world.uploads.difference(&left).filter(|(holder, _)| *holder != agent);
            for (holder, hash) in gone {
                let made = |order: &&(usize, usize, usize, Option<usize>, bool)| {
                    order.1 == *holder && order.3 == Some(*hash)
                };
                assert!(
                    world.orders.iter().filter(made).all(|order| order.0 == agent),
                    "seed {seed}: {holder} lost {hash}"
                );
                assert!(world.orders.iter().any(|order| made(&order)), "seed {seed}: {holder} lost {hash}");
            }
            // And so nobody else lost sight of anything that did not come from the subject, or was made for it.
            let (before, after) = (readable(&world, &world.uploads), readable(&world, &left));
            for (other, hash) in before.difference(&after).filter(|(other, _)| *other != agent) {
                assert!(
                    world.uploads.contains(&(agent, *hash)) || bought(*hash),
                    "seed {seed}: {other} lost sight of {hash}"
                );
            }
        }
    }
    let kinds: Vec<&str> = seen.keys().map(String::as_str).collect();
    let all = [
        "erase",
        "keep bought_by_another",
        "keep needed",
        "keep uploaded_by_another",
        "refused",
        "unlink uploaded_by_another",
    ];
    assert_eq!(kinds, all, "the worlds hold something of everything: {seen:?}");
}
