//! A stand-in for the house, for tests: it speaks the agents' protocol, remembers what it was told, holds
//! the agent to idempotency, and can be away.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message as WsMessage, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use parking_lot::Mutex;
use proto::dsse;
use proto::httpsig::{Coverage, parse};
use proto::ids::{AgentId, ArtifactHash};
use proto::keys::KeyPair;
use proto::prost::Message as _;
use proto::v1::agent_frame::Frame;
use proto::v1::command_body::Kind;
use proto::v1::{
    AgentFrame, CaughtUp, CommandAnswer, CommandBody, OrderClosed, RfqInvitation, RunTicket, TicketIssued,
};
use serde_json::json;
use tokio::sync::Notify;

use crate::job::JobSpec;

/// Ledger time of everything here: 2023-11-14T22:13:20Z.
pub(super) const NOW_US: i64 = 1_700_000_000_000_000;

#[derive(Default)]
pub(super) struct Told {
    /// Commands that were carried out, in order; repetitions are not in here.
    pub(super) commands: Vec<(String, Kind)>,
    /// Requests that only repeated an earlier one.
    pub(super) repeated: u32,
    bodies: HashMap<String, Bytes>,
    pub(super) artifacts: HashMap<String, Bytes>,
    frames: Vec<(u64, Frame)>,
    /// After which cursor each connection asked.
    pub(super) asked_after: Vec<u64>,
    /// While set, answers 503 to everything but info and the socket.
    pub(super) away: bool,
    /// Goes away as soon as it has answered metering.
    pub(super) away_after_metering: bool,
    /// Takes metering but never answers it.
    pub(super) silent_on_metering: bool,
}

impl Told {
    pub(super) fn last_frame(&mut self) -> Option<&mut Frame> {
        self.frames.last_mut().map(|(_, frame)| frame)
    }
}

pub(super) struct FakeHouse {
    pub(super) told: Mutex<Told>,
    pub(super) url: String,
    key: KeyPair,
    stir: Notify,
}

impl FakeHouse {
    pub(super) async fn open() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = KeyPair::from_seed(&[77; 32]);
        let house = Arc::new(Self { told: Mutex::default(), url, key, stir: Notify::new() });
        let routes = Router::new()
            .route("/v1/info", get(info))
            .route("/v1/ledgers/1/commands", post(command))
            .route("/v1/artifacts/{hash}", any(artifact))
            .route("/v1/agent/ws", get(socket))
            .with_state(house.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        house
    }

    /// Waits until what it was told satisfies `enough`.
    pub(super) async fn until(&self, enough: impl Fn(&Told) -> bool) {
        loop {
            let stirred = self.stir.notified();
            tokio::pin!(stirred);
            // Registered before the look, so that a stir in between is not missed.
            stirred.as_mut().enable();
            if enough(&self.told.lock()) {
                return;
            }
            stirred.await;
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock());
        self.stir.notify_waiters();
    }

    pub(super) fn kinds(&self, wanted: impl Fn(&Kind) -> bool) -> Vec<Kind> {
        self.told.lock().commands.iter().map(|(_, kind)| kind.clone()).filter(wanted).collect()
    }

    pub(super) fn send(&self, cursor: u64, frame: Frame) {
        self.change(|told| told.frames.push((cursor, frame)));
    }

    pub(super) fn invite(&self, cursor: u64, rfq: u8, work_units: u64) {
        let invitation = RfqInvitation {
            cursor,
            rfq_id: vec![rfq; 16],
            work_class: super::WORK_CLASS.to_owned(),
            work_units,
            asset_id: 1,
            max_price: "1000000".to_owned(),
            expires_at_us: NOW_US + 60_000_000,
            opened_at_us: NOW_US,
        };
        self.send(cursor, Frame::Rfq(invitation));
    }

    /// Stores the job's input and issues a ticket for it; the order's and the ticket's id are made of `n`.
    pub(super) fn issue(&self, cursor: u64, n: u8, agent: &KeyPair, spec: &JobSpec) {
        let input = spec.encode();
        let input_hash = ArtifactHash::of(&input);
        self.change(|told| {
            told.artifacts.insert(input_hash.to_string(), input.into());
        });
        let ticket = RunTicket {
            run_ticket_id: vec![n; 16],
            order_id: vec![n; 16],
            provider_id: AgentId::of_first_key(agent.public()).into(),
            provider_key_id: agent.id().into(),
            input_hash: input_hash.into(),
            work_class: super::WORK_CLASS.to_owned(),
            max_work_units: spec.work_units(),
            asset_id: 1,
            max_spend: "1000000".to_owned(),
            max_duration_ms: 120_000,
            issued_at_us: NOW_US,
            expires_at_us: NOW_US + 120_000_000,
            nonce: vec![n; 16],
            ledger_id: 1,
        };
        let ticket_envelope = dsse::sign_message(&ticket, &self.key).encode_to_vec();
        self.send(cursor, Frame::Ticket(TicketIssued { cursor, ticket_envelope }));
    }

    pub(super) fn close(&self, cursor: u64, n: u8, state: &str, cause: &str, earned: &str) {
        let closed = OrderClosed {
            cursor,
            order_id: vec![n; 16],
            state: state.to_owned(),
            cause: cause.to_owned(),
            earned: earned.to_owned(),
            asset_id: 1,
        };
        self.send(cursor, Frame::Closed(closed));
    }
}

async fn info(State(house): State<Arc<FakeHouse>>) -> String {
    json!({
        "name": "fake", "version": "0", "ledger_time_us": NOW_US, "simulated": true,
        "ledgers": [{ "ledger_id": 1, "name": "main", "origin": "fake/1" }],
        "assets": [{ "asset_id": 1, "code": "USD", "scale": 6 }],
        "receipt_key": house.key.public().to_string(), "service_key": house.key.public().to_string(),
        "operator_id": null,
    })
    .to_string()
}

fn problem(status: StatusCode, code: &str) -> Response {
    (status, json!({ "code": code, "status": status.as_u16(), "detail": "no" }).to_string()).into_response()
}

fn away() -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "UB801")
}

async fn command(
    State(house): State<Arc<FakeHouse>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let target = format!("http://{}{uri}", headers["host"].to_str().unwrap());
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let parsed = parse(method.as_str(), &target, pairs, Coverage::Command).unwrap();
    parsed.check_body(&body).unwrap();
    let key = parsed.request.idempotency_key.clone().unwrap();
    let mut replayed = false;
    let mut silent = false;
    {
        let mut told = house.told.lock();
        if told.away {
            return away();
        }
        match told.bodies.get(&key) {
            Some(first) if *first == body => {
                replayed = true;
                told.repeated += 1;
            }
            // What a forgetful agent would run into.
            Some(_) => panic!("another body under the key {key}"),
            None => {
                if key.starts_with("meter:") {
                    told.away = told.away_after_metering;
                    silent = told.silent_on_metering;
                }
                let kind = CommandBody::decode(body.clone()).unwrap().kind.unwrap();
                told.bodies.insert(key.clone(), body);
                told.commands.push((key, kind));
            }
        }
    }
    house.stir.notify_waiters();
    if silent {
        std::future::pending::<()>().await;
    }
    let answer = CommandAnswer {
        ledger_id: 1,
        seq: 1,
        command_id: vec![1; 16],
        code: "ok".to_owned(),
        facts_json: "{}".to_owned(),
        receipt_id: vec![2; 32],
        replayed,
    };
    answer.encode_to_vec().into_response()
}

async fn artifact(
    State(house): State<Arc<FakeHouse>>,
    Path(hash): Path<String>,
    method: Method,
    body: Bytes,
) -> Response {
    let answer = {
        let mut told = house.told.lock();
        if told.away {
            return away();
        }
        match (method, told.artifacts.get(&hash)) {
            (Method::PUT, _) => {
                assert_eq!(ArtifactHash::of(&body).to_string(), hash);
                told.artifacts.insert(hash, body);
                ().into_response()
            }
            (_, Some(bytes)) => bytes.clone().into_response(),
            (_, None) => problem(StatusCode::NOT_FOUND, "UM405"),
        }
    };
    house.stir.notify_waiters();
    answer
}

async fn socket(State(house): State<Arc<FakeHouse>>, up: WebSocketUpgrade) -> Response {
    up.on_upgrade(move |socket| serve(house, socket))
}

/// Sends every frame after the cursor that the agent asks for, and then the new ones as they come.
async fn serve(house: Arc<FakeHouse>, mut socket: WebSocket) {
    let Some(Ok(WsMessage::Binary(hello))) = socket.recv().await else { return };
    let Some(Frame::Hello(hello)) = AgentFrame::decode(hello).unwrap().frame else { panic!("no hello") };
    house.change(|told| told.asked_after.push(hello.after_cursor));
    let mut sent = 0;
    loop {
        let stirred = house.stir.notified();
        tokio::pin!(stirred);
        stirred.as_mut().enable();
        let (frames, total) = {
            let told = house.told.lock();
            let new = told.frames[sent..].iter().filter(|(cursor, _)| *cursor > hello.after_cursor);
            (new.cloned().collect::<Vec<_>>(), told.frames.len())
        };
        let end = frames.last().map(|(cursor, _)| Frame::CaughtUp(CaughtUp { cursor: *cursor }));
        for frame in frames.into_iter().map(|(_, frame)| frame).chain(end) {
            let bytes = AgentFrame { frame: Some(frame) }.encode_to_vec();
            if socket.send(WsMessage::Binary(bytes.into())).await.is_err() {
                return;
            }
        }
        sent = total;
        tokio::select! {
            () = &mut stirred => {}
            heard = socket.recv() => if !matches!(heard, Some(Ok(_))) { return },
        }
    }
}
