//! `/graphql`: POST for queries and mutations, GET for GraphiQL.

use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use async_graphql::{Request as Operation_, Response as Answer_, ServerError};
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use proto::httpsig::Coverage;
use proto::prost::Message as _;

use super::command::{Operation, Turn, error_of, with_codes};
use super::{Sender, schema};
use crate::rest::commands::{accepts, content_type, own_key, submission, submit};
use crate::server::ServerState;
use crate::server::body::read_body;
use crate::server::problem::{CodeOf, Problem, json};

/// Largest request, bytes.
pub(crate) const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
const RESPONSE_TYPE: &str = "application/graphql-response+json";

/// POST /graphql.
pub(crate) async fn post(State(state): State<Arc<ServerState>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !is_json(&parts.headers) {
        let problem =
            Problem::with_status(415, "UB106", "a GraphQL request's Content-Type is application/json");
        return problem.into_response();
    }
    let bytes = match read_body(&parts, body, BODY_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(problem) => return refused(&parts.headers, &problem),
    };
    let operation = match Operation::read(&bytes) {
        Ok(operation) => operation,
        Err(error) => {
            let malformed = matches!(error, super::GraphqlCommandError::NotARequest(_));
            let status = if malformed { StatusCode::BAD_REQUEST } else { request_error(&parts.headers) };
            return respond(&parts.headers, status, error.into_response());
        }
    };
    let answered = match operation.kind {
        OperationType::Query => query(state, &parts, &bytes, &operation).await,
        OperationType::Mutation => mutation(state, &parts, bytes, &operation).await,
        OperationType::Subscription => {
            Err(Problem::new("UB109", "subscriptions travel over the WebSocket at /graphql/ws"))
        }
    };
    match answered {
        Ok(answer) => {
            // An error without data concerns the whole request; one beside data (null counts) a field of it.
            let whole = answer.errors.first().is_some_and(|error| error.path.is_empty());
            let status = if whole { request_error(&parts.headers) } else { StatusCode::OK };
            respond(&parts.headers, status, answer)
        }
        Err(problem) => refused(&parts.headers, &problem),
    }
}

async fn query(
    state: Arc<ServerState>,
    parts: &Parts,
    body: &Bytes,
    operation: &Operation,
) -> Result<Answer_, Problem> {
    let signer = state.gate.check_if_signed(parts, Coverage::Read).await?;
    if let Some(signer) = &signer {
        signer.check_body(body)?;
    }
    let request = operation.request().data(state).data(Sender(signer.map(Arc::new)));
    Ok(with_codes(schema().execute(request).await))
}

async fn mutation(
    state: Arc<ServerState>,
    parts: &Parts,
    body: Bytes,
    operation: &Operation,
) -> Result<Answer_, Problem> {
    // The command comes first, since a registration brings its own key; it is judged after the signature.
    let command = operation.command();
    let own_key = command.as_ref().ok().and_then(|(_, body)| own_key(body));
    let signer = state.gate.check(parts, Coverage::Command, own_key).await?;
    signer.check_body(&body)?;
    let (ledger_id, command) = match command {
        Ok(command) => command,
        Err(error) => return Ok(error.into_response()),
    };
    let sender = Sender(Some(Arc::new(signer.clone())));
    let body_bytes = Bytes::from(command.encode_to_vec());
    let submission = submission(parts, signer, ledger_id, command, body_bytes, Some(body))?;
    let answer = submit(&state, submission).await?;
    // The same document once more, now with the answer to show.
    let request: Operation_ =
        operation.request().data(Arc::new(Turn::Answered(answer))).data(state).data(sender);
    Ok(with_codes(schema().execute(request).await))
}

/// Requests whose errors concern the whole request: 400 where the client knows the newer media type.
fn request_error(headers: &HeaderMap) -> StatusCode {
    if accepts(headers, RESPONSE_TYPE) { StatusCode::BAD_REQUEST } else { StatusCode::OK }
}

fn refused(headers: &HeaderMap, problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let error: ServerError = error_of(problem);
    let mut response = respond(headers, status, Answer_::from_errors(vec![error]));
    // The same headers as everywhere: a challenge with a 401, a moment to come back with a 503.
    let template = problem.clone().into_response();
    for name in [axum::http::header::WWW_AUTHENTICATE, axum::http::header::RETRY_AFTER] {
        if let Some(value) = template.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

fn respond(headers: &HeaderMap, status: StatusCode, answer: Answer_) -> Response {
    let media_type = if accepts(headers, RESPONSE_TYPE) { RESPONSE_TYPE } else { "application/json" };
    let code = answer.errors.first().and_then(|error| match error.extensions.as_ref()?.get("code")? {
        async_graphql::Value::String(code) => Some(code.clone()),
        _ => None,
    });
    let mut response = json(status, media_type, &answer);
    if let Some(code) = code {
        response.extensions_mut().insert(CodeOf(code.into()));
    }
    response
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut parameters = content_type(headers).split(';').map(str::trim);
    parameters.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
        && parameters.all(|parameter| parameter.eq_ignore_ascii_case("charset=utf-8") || parameter.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::header::CONTENT_TYPE;

    #[test]
    fn only_json_in_utf_8_is_json() {
        for (text, expected) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("Application/JSON;charset=UTF-8", true),
            ("application/json; charset=latin1", false),
            ("application/graphql", false),
            ("text/plain", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, text.parse().unwrap());
            assert_eq!(is_json(&headers), expected, "{text:?}");
        }
    }
}
