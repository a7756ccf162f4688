//! The two live lanes, both WebSocket: protobuf frames for agents, graphql-transport-ws for everybody else.
//!
//! A socket only listens: whatever changes state goes over HTTP. Neither reconnects by itself, because only
//! the caller knows the cursor from which to go on.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use proto::prost::Message as _;
use proto::v1::agent_frame::Frame;
use proto::v1::{AgentFrame, Hello};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::{CONNECT_TIMEOUT, Client, ClientError, Request, error, signed};

/// The server pings every five seconds: after this silence the connection is dead, whatever TCP thinks.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Longest frame, in bytes.
const FRAME_BYTES_MAX: usize = 16 << 20;

type Stream = WebSocketStream<TcpStream>;

impl Client {
    /// Opens the agents' socket (`GET /v1/agent/ws`) and asks for everything after `after_cursor`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the house will not have it, [`ClientError::Unreachable`].
    pub async fn agent_socket(&self, ledger_id: u32, after_cursor: u64) -> Result<AgentSocket, ClientError> {
        let mut stream = self.open("/v1/agent/ws", None).await?;
        let hello = AgentFrame { frame: Some(Frame::Hello(Hello { after_cursor, ledger_id })) };
        stream.send(Message::binary(hello.encode_to_vec())).await.map_err(broken)?;
        Ok(AgentSocket { stream })
    }

    /// Opens the GraphQL socket (`/graphql/ws`) and waits until the house has acknowledged it.
    ///
    /// # Errors
    /// As [`Client::agent_socket`].
    pub async fn graphql_socket(&self) -> Result<GraphqlSocket, ClientError> {
        let stream = self.open("/graphql/ws", Some("graphql-transport-ws")).await?;
        let mut socket = GraphqlSocket { stream, last_id: 0 };
        socket.send(&json!({ "type": "connection_init" })).await?;
        loop {
            let message = socket.receive().await?;
            match message["type"].as_str() {
                Some("connection_ack") => return Ok(socket),
                Some("ping") => socket.send(&json!({ "type": "pong" })).await?,
                _ => {
                    return Err(ClientError::Unintelligible(format!("instead of connection_ack: {message}")));
                }
            }
        }
    }

    async fn open(&self, path: &str, protocol: Option<&'static str>) -> Result<Stream, ClientError> {
        let local = |e: String| ClientError::Local(format!("cannot open a WebSocket: {e}"));
        let mut upgrade =
            self.base.websocket(path).into_client_request().map_err(|e| local(e.to_string()))?;
        if let Some(key) = &self.key {
            let get = Request { method: Method::GET, ..Request::get(path) };
            // Signed as the GET that it is on the wire: the scheme of the target is http.
            for (name, value) in signed(key, &self.base.join(path), &get)?.headers() {
                let value = HeaderValue::from_str(value).map_err(|e| local(e.to_string()))?;
                upgrade.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        if let Some(protocol) = protocol {
            upgrade.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let opening = async {
            let tcp = TcpStream::connect(self.base.address()).await.map_err(unreachable)?;
            tcp.set_nodelay(true).map_err(unreachable)?;
            let (stream, _) = tokio_tungstenite::client_async_with_config(upgrade, tcp, Some(config))
                .await
                .map_err(broken)?;
            Ok(stream)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, opening)
            .await
            .map_err(|_| ClientError::Unreachable("the WebSocket did not open in time".to_owned()))?
    }
}

/// The agents' socket.
#[derive(Debug)]
pub struct AgentSocket {
    stream: Stream,
}

impl AgentSocket {
    /// The next frame of the house. Cancel-safe: a frame is returned or still to come.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when the connection ended or fell silent: open another from the last
    /// cursor.
    pub async fn next(&mut self) -> Result<Frame, ClientError> {
        loop {
            let bytes = match receive(&mut self.stream).await? {
                Message::Binary(bytes) => bytes,
                other => {
                    return Err(ClientError::Unintelligible(format!("a frame that is not binary: {other}")));
                }
            };
            let frame = AgentFrame::decode(bytes)
                .map_err(|e| ClientError::Unintelligible(format!("not an AgentFrame: {e}")))?;
            match frame.frame {
                Some(frame) => return Ok(frame),
                // A kind of frame that a newer house has and this agent does not know.
                None => tracing::debug!("skipped a frame of an unknown kind"),
            }
        }
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        // The house notices a vanished agent by itself, only later.
        let _ = self.stream.close(None).await;
    }
}

/// What comes over a GraphQL socket.
#[derive(Debug, Clone, PartialEq)]
pub enum GraphqlEvent {
    /// One result of a subscription.
    Next {
        /// The subscription.
        id: u64,
        /// Its `data`.
        data: Value,
    },
    /// A subscription failed and is over.
    Failed {
        /// The subscription.
        id: u64,
        /// Why.
        error: ClientError,
    },
    /// A subscription is over.
    Complete {
        /// The subscription.
        id: u64,
    },
}

/// A socket for GraphQL subscriptions, several at a time.
#[derive(Debug)]
pub struct GraphqlSocket {
    stream: Stream,
    last_id: u64,
}

impl GraphqlSocket {
    /// Starts a subscription; its events carry the returned id.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub async fn subscribe(&mut self, query: &str, variables: Value) -> Result<u64, ClientError> {
        self.last_id += 1;
        let payload = json!({ "query": query, "variables": variables });
        let id = self.last_id;
        self.send(&json!({ "id": id.to_string(), "type": "subscribe", "payload": payload })).await?;
        Ok(id)
    }

    /// Ends a subscription. Events already on their way may still come.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub async fn unsubscribe(&mut self, id: u64) -> Result<(), ClientError> {
        self.send(&json!({ "id": id.to_string(), "type": "complete" })).await
    }

    /// The next event of any subscription.
    ///
    /// # Errors
    /// As [`AgentSocket::next`].
    pub async fn next(&mut self) -> Result<GraphqlEvent, ClientError> {
        loop {
            let mut message = self.receive().await?;
            let id = message["id"].as_str().and_then(|id| id.parse().ok());
            match (message["type"].as_str(), id) {
                (Some("ping"), _) => self.send(&json!({ "type": "pong" })).await?,
                (Some("pong"), _) => {}
                (Some("next"), Some(id)) => {
                    let payload = message["payload"].take().to_string();
                    return Ok(match error::graphql_data(payload.as_bytes()) {
                        Ok(data) => GraphqlEvent::Next { id, data },
                        Err(error) => GraphqlEvent::Failed { id, error },
                    });
                }
                (Some("error"), Some(id)) => {
                    let error = error::graphql_errors(message["payload"].take());
                    return Ok(GraphqlEvent::Failed { id, error });
                }
                (Some("complete"), Some(id)) => return Ok(GraphqlEvent::Complete { id }),
                _ => {
                    return Err(ClientError::Unintelligible(format!("not graphql-transport-ws: {message}")));
                }
            }
        }
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        let _ = self.stream.close(None).await;
    }

    async fn send(&mut self, message: &Value) -> Result<(), ClientError> {
        self.stream.send(Message::text(message.to_string())).await.map_err(broken)
    }

    async fn receive(&mut self) -> Result<Value, ClientError> {
        match receive(&mut self.stream).await? {
            Message::Text(text) => serde_json::from_str(&text)
                .map_err(|e| ClientError::Unintelligible(format!("not graphql-transport-ws: {e}"))),
            other => Err(ClientError::Unintelligible(format!("a frame that is not text: {other}"))),
        }
    }
}

/// The next data frame; pings are answered on the way.
async fn receive(stream: &mut Stream) -> Result<Message, ClientError> {
    loop {
        let message = tokio::time::timeout(SILENCE_MAX, stream.next())
            .await
            .map_err(|_| ClientError::Unreachable("the WebSocket fell silent".to_owned()))?
            .ok_or_else(|| ClientError::Unreachable("the WebSocket ended".to_owned()))?
            .map_err(broken)?;
        match message {
            // The answer to a ping is queued by the library; it goes out with the next read or write.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            Message::Close(frame) => {
                let why = frame.map(|frame| format!(": {} {}", frame.code, frame.reason)).unwrap_or_default();
                return Err(ClientError::Unreachable(format!("the house closed the WebSocket{why}")));
            }
            data => return Ok(data),
        }
    }
}

fn unreachable(error: std::io::Error) -> ClientError {
    ClientError::Unreachable(error.to_string())
}

fn broken(error: WsError) -> ClientError {
    match error {
        WsError::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            error::refusal_of(response.status().as_u16(), None, body)
        }
        other => ClientError::Unreachable(other.to_string()),
    }
}
