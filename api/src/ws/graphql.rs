//! `/graphql/ws`: subscriptions by the protocol graphql-transport-ws, and no other. Mutations are refused here.

use std::sync::Arc;
use std::time::Instant;

use async_graphql::futures_util::stream::BoxStream;
use async_graphql::http::{WebSocket as Protocol, WebSocketProtocols, WsMessage};
use async_graphql::{Data, Executor, Request as Operation, Response as Answer};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::header::SEC_WEBSOCKET_PROTOCOL;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use proto::httpsig::Coverage;
use tokio::sync::{Semaphore, mpsc};

use super::{MESSAGE_BYTES_MAX, PATIENCE, Pulse, Seat, close, send};
use crate::graphql::command::{check_size, with_codes};
use crate::graphql::{Schema, Sender, schema};
use crate::server::ServerState;
use crate::server::problem::Problem;

/// The one subprotocol.
const PROTOCOL: &str = "graphql-transport-ws";
/// Subscriptions of one connection at a time.
const SUBSCRIPTIONS_MAX: usize = 32;
/// Messages of a client that may wait for their turn.
const BACKLOG: usize = 64;

/// Counts a connection's open subscriptions; in the context of their resolvers.
#[derive(Debug, Clone)]
pub(crate) struct Slots(pub(crate) Arc<Semaphore>);

/// The upgrade: signed for private subscriptions, unsigned for none.
pub(crate) async fn upgrade(
    State(state): State<Arc<ServerState>>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    if !offers_protocol(&parts) {
        let detail = format!("this connection speaks the subprotocol {PROTOCOL} only");
        return Err(Problem::new("UB110", detail));
    }
    let signer = state.gate.check_if_signed(&parts, Coverage::Read).await?;
    let seat = Seat::take(&state, "graphql")?;
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(refused) => return Ok(refused.into_response()),
    };
    let upgrade =
        upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX).protocols([PROTOCOL]);
    Ok(upgrade.on_upgrade(move |socket| {
        let tracker = state.tasks.clone();
        tracker.track_future(async move {
            serve(&state, Sender(signer.map(Arc::new)), socket).await;
            drop(seat);
        })
    }))
}

fn offers_protocol(parts: &Parts) -> bool {
    parts
        .headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offered| offered.trim() == PROTOCOL)
}

async fn serve(state: &Arc<ServerState>, sender: Sender, mut socket: WebSocket) {
    let mut data = Data::default();
    data.insert(state.clone());
    data.insert(sender);
    data.insert(Slots(Arc::new(Semaphore::new(SUBSCRIPTIONS_MAX))));
    let (to_protocol, from_client) = mpsc::channel::<String>(BACKLOG);
    let incoming = futures_util::stream::unfold(from_client, |mut messages| async move {
        messages.recv().await.map(|message| (message, messages))
    });
    let mut protocol = Box::pin(
        Protocol::new(Coded(schema().clone()), incoming.boxed(), WebSocketProtocols::GraphQLWS)
            .connection_data(data),
    );
    let mut pulse = Pulse::new();
    let opened = Instant::now();
    let mut spoke = false;
    loop {
        tokio::select! {
            said = protocol.next() => match said {
                Some(WsMessage::Text(text)) => {
                    if send(&mut socket, Message::Text(text.into())).await.is_err() {
                        return;
                    }
                }
                Some(WsMessage::Close(code, reason)) => return close(&mut socket, code, &reason).await,
                None => return,
            },
            received = socket.recv() => match received {
                Some(Ok(Message::Text(text))) => {
                    pulse.heard();
                    spoke = true;
                    if to_protocol.try_send(text.to_string()).is_err() {
                        return close(&mut socket, 1008, "too many messages at once").await;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => pulse.heard(),
                Some(Ok(Message::Binary(_))) => return close(&mut socket, 1003, "text messages only").await,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
            tick = pulse.tick() => {
                if tick.is_err() || send(&mut socket, Message::Ping(Default::default())).await.is_err() {
                    return;
                }
                if !spoke && opened.elapsed() > PATIENCE {
                    return close(&mut socket, 4408, "Connection initialisation timeout").await;
                }
            }
            () = state.stopping.cancelled() => {
                return close(&mut socket, 1001, "the server is shutting down").await;
            }
        }
    }
}

/// The schema, with the limits of every door, and a code and a hint in every error.
#[derive(Clone)]
struct Coded(Schema);

impl Executor for Coded {
    async fn execute(&self, request: Operation) -> Answer {
        match check_size(&request.query) {
            Ok(()) => with_codes(self.0.execute(request).await),
            Err(refusal) => refusal.into_response(),
        }
    }

    fn execute_stream(
        &self,
        request: Operation,
        session_data: Option<Arc<Data>>,
    ) -> BoxStream<'static, Answer> {
        if let Err(refusal) = check_size(&request.query) {
            return futures_util::stream::iter([refusal.into_response()]).boxed();
        }
        Executor::execute_stream(&self.0, request, session_data).map(with_codes).boxed()
    }
}
