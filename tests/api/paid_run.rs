//! Whole paid runs through the front door: a buyer over GraphQL, the real agent, the house's own timers.

use std::time::Duration;

use proto::ids::{ArtifactHash, RfqId};
use provider_agent::agent::{self, AgentOptions};
use provider_agent::client::{Client, GraphqlEvent, GraphqlSocket};
use provider_agent::{JobSpec, freivalds};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::checks::healthy;
use crate::support::kinds;
use crate::support::party::USD;
use crate::support::server::Server;

/// For whatever a test waits for; only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The real agent, inside this process.
struct Agent {
    home: TempDir,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Agent {
    async fn start(server: &Server, faults: &str) -> Agent {
        let home = TempDir::new().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let options = AgentOptions {
            price_per_unit: proto::money::Amount::from_u64(3),
            faults: faults.parse().unwrap(),
            threads: std::num::NonZero::new(1),
            ..AgentOptions::new(&server.url, home.path())
        };
        let running = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            agent::run_until(options, stopped).await.unwrap();
        });
        let agent = Agent { home, stop: Some(stop), running };
        // Invited are only those whose connection is up.
        let stranger = Client::anonymous(&server.url).unwrap();
        let reachable = async {
            loop {
                let ads =
                    stranger.graphql("{ ads { pricePerUnit reachable } }", json!({}), None).await.unwrap();
                let ads = ads["ads"].as_array().unwrap().clone();
                if ads.iter().any(|ad| ad["pricePerUnit"] == "3" && ad["reachable"] == true) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, reachable).await.expect("the agent never became reachable");
        agent
    }

    async fn stop(mut self) -> TempDir {
        drop(self.stop.take());
        self.running.await.unwrap();
        self.home
    }
}

/// A buyer at work.
struct Buyer {
    client: Client,
    socket: GraphqlSocket,
}

impl Buyer {
    async fn arrive(server: &Server) -> Buyer {
        let client = server.client("buyer");
        let mut socket = client.graphql_socket().await.unwrap();
        let events = "subscription { events { cursor kind rfqId offerId orderId state cause outputHash paid refunded } }";
        socket.subscribe(events, json!({})).await.unwrap();
        Buyer { client, socket }
    }

    async fn mutate(&self, key: &str, mutation: &str, variables: Value) -> Value {
        let answer = self.client.graphql(mutation, variables, Some(key)).await.unwrap();
        answer.as_object().unwrap().values().next().unwrap().clone()
    }

    /// The next event that fits.
    async fn event(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                match self.socket.next().await.unwrap() {
                    GraphqlEvent::Next { data, .. } if fits(&data["events"]) => {
                        return data["events"].clone();
                    }
                    GraphqlEvent::Next { .. } => {}
                    ended => panic!("{ended:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the event never came")
    }

    /// Orders a job from whoever offers first; the order and its job.
    async fn order(&mut self, server: &Server, seed: u8) -> (String, JobSpec) {
        let job = JobSpec::from_request(200, 20, [seed; 32]);
        let input_hash = self.client.put_artifact(job.encode()).await.unwrap();
        let rfq_id = RfqId::from_uuid(server.market.id()).to_string();
        let input = json!({
            "rfqId": rfq_id, "workClass": kinds::WORK_CLASS, "inputHash": input_hash, "workUnits": job.work_units(),
            "assetId": USD, "maxPrice": "1000000", "validForMs": 60_000, "maxDurationMs": 60_000,
        });
        let open = "mutation($input: OpenRfqInput!) { openRfq(input: $input) { facts } }";
        self.mutate(&format!("open-{seed}"), open, json!({ "input": input })).await;
        let offer = self.event(|event| event["kind"] == "OFFER" && event["rfqId"] == json!(rfq_id)).await;
        let accept = "mutation($input: AcceptOfferInput!) { acceptOffer(input: $input) { facts } }";
        let input = json!({ "offerId": offer["offerId"], "spendCap": "1000000" });
        let accepted = self.mutate(&format!("accept-{seed}"), accept, json!({ "input": input })).await;
        (accepted["facts"]["order_id"].as_str().unwrap().to_owned(), job)
    }

    async fn reported(&mut self, order: &str) -> ArtifactHash {
        let reported =
            self.event(|event| event["orderId"] == json!(order) && event["state"] == "reported").await;
        reported["outputHash"].as_str().unwrap().parse().unwrap()
    }

    async fn closed(&mut self, order: &str) -> Value {
        self.event(|event| event["orderId"] == json!(order) && event["kind"] == "CLOSED").await
    }

    async fn reject(&self, order: &str, output: &ArtifactHash, reason: &str) {
        let reject = "mutation($input: RejectOutputInput!) { rejectOutput(input: $input) { seq } }";
        let input = json!({ "orderId": order, "outputHash": output, "reason": reason });
        self.mutate(&format!("reject-{order}"), reject, json!({ "input": input })).await;
    }
}

#[tokio::test]
async fn a_paid_run_goes_from_rfq_to_payout() {
    let server = Server::start_with_house().await;
    let agent = Agent::start(&server, "").await;
    let mut buyer = Buyer::arrive(&server).await;
    let (order, job) = buyer.order(&server, 1).await;
    let output_hash = buyer.reported(&order).await;
    let output = buyer.client.get_artifact(output_hash).await.unwrap();
    freivalds::check(&job, &output, [3; 32], 4).unwrap();
    let accept = "mutation($input: AcceptOutputInput!) { acceptOutput(input: $input) { seq } }";
    let input = json!({ "orderId": order, "outputHash": output_hash });
    buyer.mutate("judge", accept, json!({ "input": input })).await;
    let closed = buyer.closed(&order).await;
    assert_eq!(closed["state"], "settled");
    assert_eq!(closed["paid"], (3 * job.work_units()).to_string());

    // The scheduler pays on its own.
    let paid = "select count(*) > 0 and bool_and(state = 'confirmed') and sum(amount) = (select sum(amount) from splits.legs) \
                from payouts.payouts";
    server.until("every leg is paid out", paid).await;
    agent.stop().await;
    healthy(&server.market.admin).await;
    server.verified().await;
}

#[tokio::test]
async fn a_wrong_output_is_refunded_by_the_verifier() {
    let server = Server::start_with_house().await;
    let agent = Agent::start(&server, "wrong=1.0,seed=1").await;
    let mut buyer = Buyer::arrive(&server).await;
    let (order, job) = buyer.order(&server, 2).await;
    let output_hash = buyer.reported(&order).await;
    let output = buyer.client.get_artifact(output_hash).await.unwrap();
    assert!(freivalds::check(&job, &output, [3; 32], 4).is_err());
    buyer.reject(&order, &output_hash, "wrong_output").await;
    let closed = buyer.closed(&order).await;
    assert_eq!(
        (closed["state"].as_str(), closed["cause"].as_str()),
        (Some("refunded"), Some("wrong_output"))
    );
    assert_eq!(closed["paid"], "0");
    agent.stop().await;
    healthy(&server.market.admin).await;
    server.verified().await;
}

#[tokio::test]
async fn a_buyer_cannot_take_right_work_for_free() {
    let server = Server::start_with_house().await;
    let agent = Agent::start(&server, "").await;
    let mut buyer = Buyer::arrive(&server).await;
    let (order, _) = buyer.order(&server, 3).await;
    let output_hash = buyer.reported(&order).await;
    buyer.reject(&order, &output_hash, "wrong_output").await;
    assert_eq!(buyer.closed(&order).await["state"], "settled");
    agent.stop().await;
    server.verified().await;
}

#[tokio::test]
async fn an_over_report_is_found_and_refunded() {
    let server = Server::start_with_house().await;
    let agent = Agent::start(&server, "over=1.0,seed=1").await;
    let mut buyer = Buyer::arrive(&server).await;
    let (order, _) = buyer.order(&server, 4).await;
    let output_hash = buyer.reported(&order).await;
    buyer.reject(&order, &output_hash, "over_report").await;
    let closed = buyer.closed(&order).await;
    assert_eq!((closed["state"].as_str(), closed["cause"].as_str()), (Some("refunded"), Some("over_report")));
    agent.stop().await;
    server.verified().await;
}

#[tokio::test]
async fn timers_close_what_nobody_closes() {
    let server = Server::start_with_house().await;
    let market = &server.market;
    market.reachable(&market.provider, true).await;
    let mut buyer = Buyer::arrive(&server).await;
    let (asked, vanished, silent) = (market.asked().await, market.ordered().await, market.reported().await);
    market.advance(Duration::from_secs(3_600));
    let closed = buyer.closed(&vanished.order.to_string()).await;
    assert_eq!((closed["state"].as_str(), closed["cause"].as_str()), (Some("refunded"), Some("vanished")));
    // Its output was reported and is nowhere to be found: the verifier sees to that.
    let closed = buyer.closed(&silent.order.to_string()).await;
    assert_eq!(
        (closed["state"].as_str(), closed["cause"].as_str()),
        (Some("refunded"), Some("missing_output"))
    );
    server
        .until(
            "the RFQ expires",
            &format!("select state = 'expired' from market.rfqs where rfq_id = '{}'", asked.rfq),
        )
        .await;
    healthy(&market.admin).await;
    server.verified().await;
}
