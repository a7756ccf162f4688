//! A buyer's (or operator's) view of a house: typed calls over its public GraphQL API, the same for the command line, the
//! demo and the benchmark.

use std::sync::Arc;

use proto::ids::{AgentId, ArtifactHash, OfferId, OrderId, RfqId};
use proto::money::Amount;
use proto::v1;
use proto::v1::command_body::Kind;
use provider_agent::client::{Client, ClientError, GraphqlSocket, Info};
use provider_agent::{JobSpec, freivalds};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::failure::{Failure, Outcome};

/// Work class of the jobs that this program knows how to make and check.
pub(crate) const WORK_CLASS: &str = "gemm.int8";
/// Orders or other rows per page.
pub(crate) const PAGE: u32 = 100;

const ORDER_FIELDS: &str = "orderId rfqId offerId buyerId providerId assetId workClass pricePerUnit workUnits held \
    inputHash outputHash state cause orderedAtUs startedAtUs reportedAtUs judgeByUs judgedAtUs closedAtUs meteredUnits \
    billedUnits paid refunded";

/// A house, one of its ledgers, and the key that speaks. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Market {
    pub(crate) client: Client,
    pub(crate) info: Arc<Info>,
    pub(crate) ledger_id: u32,
    /// Part of every idempotency key. Empty: keys follow from what is asked for, so that a program that was cut off
    /// repeats itself without harm. A person who tries again after a refusal means a new request.
    salt: Arc<str>,
}

/// What a mutation answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    pub(crate) seq: u64,
    pub(crate) receipt_id: String,
    pub(crate) replayed: bool,
    pub(crate) facts: Value,
}

/// A request for offers, before it is opened.
#[derive(Debug, Clone)]
pub(crate) struct NewRfq {
    pub(crate) rfq_id: RfqId,
    pub(crate) region: Option<String>,
    pub(crate) input_hash: ArtifactHash,
    pub(crate) work_units: u64,
    pub(crate) asset_id: u32,
    pub(crate) max_price: Amount,
    pub(crate) valid_for_ms: u32,
    pub(crate) max_duration_ms: u32,
    pub(crate) creator_id: Option<AgentId>,
    pub(crate) referrer_id: Option<AgentId>,
}

/// An RFQ as its buyer sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rfq {
    pub(crate) rfq_id: RfqId,
    pub(crate) state: String,
    pub(crate) work_class: String,
    pub(crate) region: Option<String>,
    pub(crate) work_units: u64,
    pub(crate) asset_id: u32,
    pub(crate) max_price: String,
    pub(crate) expires_at_us: i64,
    pub(crate) invited: Option<u32>,
    pub(crate) order_id: Option<OrderId>,
}

/// An offer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Offer {
    pub(crate) offer_id: OfferId,
    pub(crate) provider_id: AgentId,
    pub(crate) asset_id: u32,
    pub(crate) price_per_unit: String,
    pub(crate) price: String,
    pub(crate) expires_at_us: i64,
    pub(crate) state: String,
}

/// An order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    pub(crate) order_id: OrderId,
    pub(crate) rfq_id: RfqId,
    pub(crate) provider_id: AgentId,
    pub(crate) asset_id: u32,
    pub(crate) work_class: String,
    pub(crate) price_per_unit: String,
    pub(crate) work_units: u64,
    pub(crate) held: String,
    pub(crate) input_hash: ArtifactHash,
    pub(crate) output_hash: Option<ArtifactHash>,
    pub(crate) state: String,
    pub(crate) cause: Option<String>,
    pub(crate) ordered_at_us: i64,
    pub(crate) closed_at_us: Option<i64>,
    pub(crate) metered_units: Option<u64>,
    pub(crate) paid: Option<String>,
    pub(crate) refunded: Option<String>,
}

impl Order {
    /// Whether nothing more will happen to it.
    pub(crate) fn is_closed(&self) -> bool {
        is_closed(&self.state)
    }
}

/// Whether an order in this state is at its end.
pub(crate) fn is_closed(state: &str) -> bool {
    matches!(state, "settled" | "refunded")
}

/// One of an agent's accounts; amounts in minor units, `posted` and `spendable` may be negative.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Balance {
    pub(crate) asset_id: u32,
    pub(crate) asset: String,
    pub(crate) scale: u8,
    pub(crate) purpose: String,
    pub(crate) posted: String,
    pub(crate) pending_out: String,
    pub(crate) pending_in: String,
    pub(crate) spendable: String,
}

/// One share of one settlement, and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatementLine {
    pub(crate) payable_id: String,
    pub(crate) earned_at_us: i64,
    pub(crate) order_id: String,
    pub(crate) role: String,
    pub(crate) asset: String,
    pub(crate) scale: u8,
    pub(crate) amount: String,
    pub(crate) payout_id: Option<String>,
    pub(crate) payout_state: Option<String>,
    pub(crate) paid_at_us: Option<i64>,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum EventKind {
    Rfq,
    Offer,
    Ticket,
    Order,
    Closed,
    RfqClosed,
    Payout,
}

/// What an agent is told, in order.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    pub(crate) cursor: String,
    pub(crate) kind: EventKind,
    pub(crate) rfq_id: Option<RfqId>,
    pub(crate) offer_id: Option<OfferId>,
    pub(crate) order_id: Option<OrderId>,
    pub(crate) state: Option<String>,
    pub(crate) price: Option<String>,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connection<T> {
    nodes: Vec<T>,
    page_info: PageInfo,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

impl Market {
    /// Asks the house what it is and takes ledger `ledger_id` of it, or the first.
    pub(crate) async fn open(client: Client, ledger_id: Option<u32>) -> Outcome<Self> {
        let info = client.info().await?;
        let ledger_id = info.ledger(ledger_id).map(|ledger| ledger.ledger_id).ok_or_else(|| {
            let known: Vec<String> = info.ledgers.iter().map(|ledger| ledger.ledger_id.to_string()).collect();
            Failure::new("UB401", format!("there is no such ledger here: choose one of {}", known.join(", ")))
        })?;
        Ok(Self { client, info: Arc::new(info), ledger_id, salt: "".into() })
    }

    /// The same market for a person: each call is a request of its own.
    pub(crate) fn for_a_person(mut self) -> Self {
        self.salt = format!(":{}", uuid::Uuid::now_v7().simple()).into();
        self
    }

    /// The same market through another client of the same house.
    pub(crate) fn with_client(&self, client: Client) -> Self {
        Self { client, ..self.clone() }
    }

    /// The agent that speaks.
    pub(crate) fn me(&self) -> Outcome<AgentId> {
        self.client.agent_id().ok_or_else(|| Failure::usage("this needs a key to sign with"))
    }

    /// Registers the speaking key. Again with the same purpose and owner: nothing changes.
    pub(crate) async fn register(
        &self,
        purpose: v1::KeyPurpose,
        owner: Option<AgentId>,
    ) -> Result<Value, ClientError> {
        let key =
            self.client.key().ok_or_else(|| ClientError::Local("registering needs a key".to_owned()))?;
        let register = v1::RegisterAgent {
            key: Some(v1::Key { public_key: key.public().as_bytes().to_vec(), purpose: purpose.into() }),
            name_commitment: Vec::new(),
            beneficial_owner_id: owner.map(|owner| owner.to_bytes().to_vec()).unwrap_or_default(),
        };
        // The request must carry its own key in the open, which the house reads from a command's body.
        let body = v1::CommandBody { kind: Some(Kind::RegisterAgent(register)) };
        let key = format!("register{}", self.salt);
        Ok(self.client.command(self.ledger_id, &key, &body).await?.facts)
    }

    /// Books money that came from outside; the operator's key only.
    pub(crate) async fn deposit(
        &self,
        agent: AgentId,
        asset_id: u32,
        amount: Amount,
        reference: &str,
    ) -> Result<Receipt, ClientError> {
        let input = json!({
            "agentId": agent.to_string(), "assetId": asset_id, "amount": amount.to_string(), "externalReference": reference,
        });
        // What cannot stand in a header goes as its hash: the market has its own word for such a reference.
        let key = match reference.len() < 200
            && reference.bytes().all(|byte| byte.is_ascii_graphic() && !br#""\"#.contains(&byte))
        {
            true => format!("deposit:{reference}"),
            false => format!("deposit:{}", blake3::hash(reference.as_bytes()).to_hex()),
        };
        self.mutate("deposit", "DepositInput", input, &key).await
    }

    /// Stores an input artifact and returns its name.
    pub(crate) async fn put_job(&self, job: &JobSpec) -> Result<ArtifactHash, ClientError> {
        self.client.put_artifact(job.encode()).await
    }

    /// Opens an RFQ.
    pub(crate) async fn open_rfq(&self, rfq: &NewRfq) -> Result<Receipt, ClientError> {
        let input = json!({
            "rfqId": rfq.rfq_id.to_string(), "workClass": WORK_CLASS, "region": rfq.region.as_deref().unwrap_or_default(),
            "inputHash": rfq.input_hash.to_string(), "workUnits": rfq.work_units, "assetId": rfq.asset_id,
            "maxPrice": rfq.max_price.to_string(), "validForMs": rfq.valid_for_ms, "maxDurationMs": rfq.max_duration_ms,
            "creatorId": rfq.creator_id.map(|id| id.to_string()), "referrerId": rfq.referrer_id.map(|id| id.to_string()),
        });
        self.mutate("openRfq", "OpenRfqInput", input, &format!("rfq:{}", rfq.rfq_id)).await
    }

    /// Withdraws an RFQ.
    pub(crate) async fn cancel_rfq(&self, rfq_id: RfqId) -> Result<Receipt, ClientError> {
        let input = json!({ "rfqId": rfq_id.to_string() });
        self.mutate("cancelRfq", "CancelRfqInput", input, &format!("cancel:{rfq_id}")).await
    }

    /// Accepts an offer, for at most `spend_cap`. `facts.order_id` names the order.
    pub(crate) async fn accept_offer(
        &self,
        offer_id: OfferId,
        spend_cap: &str,
    ) -> Result<Receipt, ClientError> {
        let input = json!({ "offerId": offer_id.to_string(), "spendCap": spend_cap });
        self.mutate("acceptOffer", "AcceptOfferInput", input, &format!("order:{offer_id}")).await
    }

    /// Accepts an output.
    pub(crate) async fn accept_output(
        &self,
        order_id: OrderId,
        output: ArtifactHash,
    ) -> Result<Receipt, ClientError> {
        let input = json!({ "orderId": order_id.to_string(), "outputHash": output.to_string() });
        self.mutate("acceptOutput", "AcceptOutputInput", input, &format!("accept:{order_id}")).await
    }

    /// Disputes an output, for one of the contract's reasons.
    pub(crate) async fn reject_output(
        &self,
        order_id: OrderId,
        output: ArtifactHash,
        reason: &str,
    ) -> Result<Receipt, ClientError> {
        let input =
            json!({ "orderId": order_id.to_string(), "outputHash": output.to_string(), "reason": reason });
        self.mutate("rejectOutput", "RejectOutputInput", input, &format!("reject:{order_id}:{reason}")).await
    }

    /// Settles an accepted order. The house does it by itself; this is for whoever will not wait.
    pub(crate) async fn settle(&self, order_id: OrderId) -> Result<Receipt, ClientError> {
        let input = json!({ "orderId": order_id.to_string() });
        self.mutate("settleOrder", "SettleOrderInput", input, &format!("settle:{order_id}")).await
    }

    /// One of the caller's RFQs; `None` when there is none of that id.
    pub(crate) async fn rfq(&self, rfq_id: RfqId) -> Result<Option<Rfq>, ClientError> {
        const QUERY: &str = "query($ledgerId: Int!, $id: UUID!) { rfq(ledgerId: $ledgerId, id: $id) { rfqId state workClass \
            region workUnits assetId maxPrice expiresAtUs invited orderId } }";
        self.query(QUERY, "rfq", json!({ "id": rfq_id.to_string() })).await
    }

    /// The offers to one of the caller's RFQs, cheapest first.
    pub(crate) async fn offers(&self, rfq_id: RfqId) -> Result<Vec<Offer>, ClientError> {
        const QUERY: &str = "query($ledgerId: Int!, $id: UUID!) { offers(ledgerId: $ledgerId, rfqId: $id) { offerId providerId \
            assetId pricePerUnit price expiresAtUs state } }";
        self.query(QUERY, "offers", json!({ "id": rfq_id.to_string() })).await
    }

    /// One of the caller's orders; `None` when there is none of that id.
    pub(crate) async fn order(&self, order_id: OrderId) -> Result<Option<Order>, ClientError> {
        let query = format!(
            "query($ledgerId: Int!, $id: UUID!) {{ order(ledgerId: $ledgerId, id: $id) {{ {ORDER_FIELDS} }} }}"
        );
        self.query(&query, "order", json!({ "id": order_id.to_string() })).await
    }

    /// The caller's orders, newest first, at most `limit`.
    pub(crate) async fn orders(&self, limit: usize) -> Result<Vec<Order>, ClientError> {
        let query = format!(
            "query($ledgerId: Int!, $first: Int!, $after: String) {{ orders(ledgerId: $ledgerId, first: $first, after: $after) \
             {{ nodes {{ {ORDER_FIELDS} }} pageInfo {{ hasNextPage endCursor }} }} }}"
        );
        self.pages(&query, "orders", limit).await
    }

    /// Every row of a paged list, at most `limit`.
    async fn pages<T: DeserializeOwned>(
        &self,
        query: &str,
        field: &str,
        limit: usize,
    ) -> Result<Vec<T>, ClientError> {
        self.pages_of(query, field, json!({}), limit).await
    }

    /// The same of a list that takes more than a page's place.
    pub(crate) async fn pages_of<T: DeserializeOwned>(
        &self,
        query: &str,
        field: &str,
        variables: Value,
        limit: usize,
    ) -> Result<Vec<T>, ClientError> {
        let mut rows = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let first = u32::try_from(limit - rows.len()).unwrap_or(PAGE).min(PAGE);
            let mut variables = variables.clone();
            variables["first"] = first.into();
            variables["after"] = after.into();
            let page: Connection<T> = self.query(query, field, variables).await?;
            rows.extend(page.nodes);
            if !page.page_info.has_next_page || rows.len() >= limit {
                return Ok(rows);
            }
            after = page.page_info.end_cursor;
        }
    }

    /// The job of an order, from its input artifact.
    pub(crate) async fn job(&self, order: &Order) -> Result<JobSpec, ClientError> {
        let input = self.client.get_artifact(order.input_hash).await?;
        JobSpec::decode(&input).map_err(|error| ClientError::Local(format!("the input is no job: {error}")))
    }

    /// Fetches an order's output and checks it: its hash, and that it is the product that `job` asks for.
    pub(crate) async fn checked_output(&self, order: &Order, job: JobSpec) -> Result<Checked, ClientError> {
        let Some(output_hash) = order.output_hash else { return Ok(Checked::Missing) };
        let output = match self.client.get_artifact(output_hash).await {
            Ok(output) => output,
            Err(error) if error.code().is_some_and(|code| code.as_bytes().get(2) == Some(&b'4')) => {
                return Ok(Checked::Missing);
            }
            Err(error) => return Err(error),
        };
        // Drawn only now that the output is committed: nothing could be aimed at it.
        let seed: [u8; 32] = rand::random();
        let rounds = freivalds::ROUNDS_MIN;
        let judged = tokio::task::spawn_blocking(move || {
            let found = freivalds::check(&job, &output, seed, rounds);
            (found, output)
        });
        let (found, output) =
            judged.await.map_err(|error| ClientError::Local(format!("the check ended early: {error}")))?;
        Ok(match found {
            Ok(()) => Checked::Right(output),
            Err(mismatch) => Checked::Wrong(output, mismatch.to_string()),
        })
    }

    /// The caller's accounts.
    pub(crate) async fn balances(&self) -> Result<Vec<Balance>, ClientError> {
        const QUERY: &str = "query($ledgerId: Int!) { balances(ledgerId: $ledgerId) { assetId asset scale purpose posted \
            pendingOut pendingIn spendable } }";
        self.query(QUERY, "balances", json!({})).await
    }

    /// Everything the caller ever earned, oldest first.
    pub(crate) async fn statement(&self) -> Result<Vec<StatementLine>, ClientError> {
        const QUERY: &str = "query($ledgerId: Int!, $first: Int!, $after: String) { statement(ledgerId: $ledgerId, first: $first, \
            after: $after) { nodes { payableId earnedAtUs orderId role asset scale amount payoutId payoutState paidAtUs } \
            pageInfo { hasNextPage endCursor } } }";
        self.pages(QUERY, "statement", usize::MAX).await
    }

    /// A socket that brings the caller's events after `cursor`; "0" is before the first.
    pub(crate) async fn events(&self, cursor: &str) -> Result<Events, ClientError> {
        const QUERY: &str = "subscription($ledgerId: Int!, $after: String!) { events(ledgerId: $ledgerId, after: $after) { cursor kind \
            rfqId offerId orderId state price } }";
        let mut socket = self.client.graphql_socket().await?;
        socket.subscribe(QUERY, json!({ "ledgerId": self.ledger_id, "after": cursor })).await?;
        Ok(Events { socket })
    }

    /// Sends the mutation `field`.
    pub(crate) async fn mutate(
        &self,
        field: &str,
        input_type: &str,
        input: Value,
        key: &str,
    ) -> Result<Receipt, ClientError> {
        let query = format!(
            "mutation($ledgerId: Int!, $input: {input_type}!) {{ {field}(ledgerId: $ledgerId, input: $input) \
             {{ seq receiptId replayed facts }} }}"
        );
        let variables = json!({ "ledgerId": self.ledger_id, "input": input });
        let key = format!("{key}{}", self.salt);
        let mut data = self.client.graphql(&query, variables, Some(&key)).await?;
        decode(data[field].take(), field)
    }

    /// Asks for `field` in a query; `$ledgerId` is filled in.
    pub(crate) async fn query<T: DeserializeOwned>(
        &self,
        query: &str,
        field: &str,
        mut variables: Value,
    ) -> Result<T, ClientError> {
        variables["ledgerId"] = self.ledger_id.into();
        let mut data = self.client.graphql(query, variables, None).await?;
        decode(data[field].take(), field)
    }
}

/// What became of an output's check.
#[derive(Debug)]
pub(crate) enum Checked {
    /// It is the product.
    Right(bytes::Bytes),
    /// It is not, and why.
    Wrong(bytes::Bytes, String),
    /// There is none, or it is gone.
    Missing,
}

/// A subscription to one agent's events.
#[derive(Debug)]
pub(crate) struct Events {
    socket: GraphqlSocket,
}

impl Events {
    /// The next event.
    pub(crate) async fn next(&mut self) -> Result<Event, ClientError> {
        use provider_agent::client::GraphqlEvent;
        match self.socket.next().await? {
            GraphqlEvent::Next { mut data, .. } => decode(data["events"].take(), "events"),
            GraphqlEvent::Failed { error, .. } => Err(error),
            GraphqlEvent::Complete { .. } => {
                Err(ClientError::Unreachable("the subscription ended".to_owned()))
            }
        }
    }
}

fn decode<T: DeserializeOwned>(value: Value, field: &str) -> Result<T, ClientError> {
    serde_json::from_value(value)
        .map_err(|error| ClientError::Unintelligible(format!("{field} is not what it should be: {error}")))
}
