//! From a GraphQL request to the command it asks for: a pure function of the request's bytes.
//!
//! The server runs it to know what to decide, and an auditor runs it years later on the stored, signed JSON to see that
//! the executed command is the one that was signed. It executes the real schema with a sink in place of the pipeline, so
//! there is no second reading of the language.

use std::sync::Arc;

use async_graphql::parser::types::{ExecutableDocument, OperationType, Selection};
use async_graphql::{Context, ErrorExtensions as _, Request, Response, ServerError, Variables};
use futures_util::FutureExt as _;
use ledger::pipeline::Answer;
use parking_lot::Mutex;
use proto::v1::CommandBody;
use proto::v1::command_body::Kind;
use serde::Deserialize;

use super::nesting::deepest;
use super::result::CommandResult;
use super::schema;
use crate::server::problem::{Problem, hint};

/// Longest query document, bytes; data belongs into variables.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting of a document, arguments included: far more than the schema's depth, far less than a stack takes.
const NESTING_MAX: usize = 100;
/// Longest message of an error; no answer grows with what it refuses.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// Why a GraphQL request is no command.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GraphqlCommandError {
    /// UB103: the body is not a GraphQL request in JSON.
    #[error("the body is not a GraphQL request: {0}")]
    NotARequest(String),
    /// UB108: the document cannot be read, names no operation, or asks for something other than one mutation.
    #[error("{0}")]
    NotOneMutation(String),
    /// The schema refuses it: unknown fields, wrong types, too deep, too large, malformed amounts.
    #[error("{}", .0.first().map_or("the request is not valid", |error| error.message.as_str()))]
    Invalid(Vec<ServerError>),
}

impl GraphqlCommandError {
    /// The code of docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotARequest(_) => "UB103",
            Self::NotOneMutation(_) => "UB108",
            Self::Invalid(errors) => match errors.first() {
                Some(error) if !error.path.is_empty() => "UB103",
                _ => "UB108",
            },
        }
    }

    /// The response that says so.
    pub(crate) fn into_response(self) -> Response {
        let code = self.code();
        match self {
            Self::Invalid(errors) => with_codes(Response::from_errors(errors)),
            Self::NotARequest(_) | Self::NotOneMutation(_) => {
                with_codes(Response::from_errors(vec![error_of(&Problem::new(code, self.to_string()))]))
            }
        }
    }
}

/// A parsed request: what it is, and what to execute.
#[derive(Debug)]
pub(crate) struct Operation {
    query: String,
    operation_name: Option<String>,
    variables: Variables,
    document: ExecutableDocument,
    pub(crate) kind: OperationType,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    query: String,
    #[serde(default)]
    operation_name: Option<String>,
    #[serde(default)]
    variables: Option<Variables>,
}

impl Operation {
    /// Reads a request's JSON and its document, and finds the operation that it names.
    pub(crate) fn read(body: &[u8]) -> Result<Self, GraphqlCommandError> {
        let body: Body = serde_json::from_slice(body)
            .map_err(|error| GraphqlCommandError::NotARequest(error.to_string()))?;
        check_size(&body.query)?;
        let document = async_graphql::parser::parse_query(&body.query)
            .map_err(|error| GraphqlCommandError::Invalid(vec![error.into()]))?;
        // An empty name is what some clients send for none.
        let operation_name = body.operation_name.filter(|name| !name.is_empty());
        let mut operations = document.operations.iter();
        let kind = match &operation_name {
            Some(wanted) => operations
                .find(|(name, _)| name.is_some_and(|name| name.as_str() == wanted))
                .map(|(_, operation)| operation.node.ty)
                .ok_or_else(|| format!("the document has no operation named {wanted:?}")),
            None => match (operations.next(), operations.next()) {
                (Some((_, operation)), None) => Ok(operation.node.ty),
                _ => Err("the document has several operations: operationName says which".to_owned()),
            },
        }
        .map_err(GraphqlCommandError::NotOneMutation)?;
        let variables = body.variables.unwrap_or_default();
        Ok(Self { query: body.query, operation_name, variables, document, kind })
    }

    /// The request to execute, as often as needed.
    pub(crate) fn request(&self) -> Request {
        let mut request = Request::new(self.query.clone()).variables(self.variables.clone());
        request.operation_name.clone_from(&self.operation_name);
        request.set_parsed_query(self.document.clone());
        request
    }

    /// The command that this mutation asks for.
    pub(crate) fn command(&self) -> Result<(u32, CommandBody), GraphqlCommandError> {
        self.check_one_field()?;
        let turn = Arc::new(Turn::Capture(Mutex::new(None)));
        // Nothing waits in this turn: the resolver hands its command over and stops.
        let response = schema().execute(self.request().data(turn.clone())).now_or_never();
        let captured = match turn.as_ref() {
            Turn::Capture(slot) => slot.lock().take(),
            Turn::Answered(_) => None,
        };
        captured.ok_or_else(|| {
            GraphqlCommandError::Invalid(response.map(|response| response.errors).unwrap_or_default())
        })
    }

    /// Exactly one field, written out in the operation itself: what is signed is one command, at a glance.
    fn check_one_field(&self) -> Result<(), GraphqlCommandError> {
        let wrong = |why: &str| Err(GraphqlCommandError::NotOneMutation(why.to_owned()));
        if self.kind != OperationType::Mutation {
            return wrong("the request is not a mutation");
        }
        let operation = self.document.operations.iter().find(|(name, _)| match &self.operation_name {
            Some(wanted) => name.is_some_and(|name| name.as_str() == wanted),
            None => true,
        });
        let Some((_, operation)) = operation else {
            return wrong("the document has no such operation");
        };
        match operation.node.selection_set.node.items.as_slice() {
            [item] => match &item.node {
                Selection::Field(field) if field.node.directives.is_empty() => Ok(()),
                _ => wrong("a mutation holds its one field itself: no fragment, no @skip, no @include"),
            },
            _ => wrong("a request holds exactly one mutation field; send one request per command"),
        }
    }
}

/// Whether a document may be handed to the parser: by whatever door it came.
pub(crate) fn check_size(document: &str) -> Result<(), GraphqlCommandError> {
    let why = if document.len() > QUERY_BYTES_MAX {
        format!("the document has more than {QUERY_BYTES_MAX} bytes; put data into variables")
    } else if deepest(document) > NESTING_MAX {
        format!("the document nests deeper than {NESTING_MAX} levels")
    } else {
        return Ok(());
    };
    Err(GraphqlCommandError::NotOneMutation(why))
}

/// The ledger and command that a GraphQL request's exact bytes ask for. Pure: the same bytes, the same command.
pub fn command_of(body: &[u8]) -> Result<(u32, CommandBody), GraphqlCommandError> {
    Operation::read(body)?.command()
}

/// What a mutation's resolver does with its command.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Hand it over and stop.
    Capture(Mutex<Option<(u32, CommandBody)>>),
    /// It has been decided: show the answer.
    Answered(Answer),
}

/// The end of every mutation's resolver.
pub(crate) fn carry(ctx: &Context<'_>, ledger_id: u32, kind: Kind) -> async_graphql::Result<CommandResult> {
    match ctx.data_opt::<Arc<Turn>>().map(Arc::as_ref) {
        Some(Turn::Capture(slot)) => {
            *slot.lock() = Some((ledger_id, CommandBody { kind: Some(kind) }));
            Err(async_graphql::Error::new("captured"))
        }
        Some(Turn::Answered(answer)) if answer.is_ok() => Ok(CommandResult::of(answer)),
        Some(Turn::Answered(answer)) => Err(coded(&Problem::refused(answer))),
        None => Err(coded(&Problem::new("UB109", "mutations travel in HTTP POST requests only"))),
    }
}

/// A problem as a resolver's error.
pub(crate) fn coded(problem: &Problem) -> async_graphql::Error {
    async_graphql::Error::new(problem.detail.clone()).extend_with(|_, extensions| {
        extensions.set("code", problem.code.as_ref());
        extensions.set("status", problem.status);
        extensions.set("hint", problem.hint());
        if let Some(refusal) = &problem.refusal {
            extensions.set("seq", refusal.seq);
            extensions.set("receiptId", refusal.receipt_id.as_str());
            extensions.set("replayed", refusal.replayed);
        }
    })
}

/// A problem as an error of the whole request.
pub(crate) fn error_of(problem: &Problem) -> ServerError {
    coded(problem).into_server_error(Default::default()).with_no_place()
}

trait WithNoPlace {
    fn with_no_place(self) -> Self;
}

impl WithNoPlace for ServerError {
    /// It concerns the request, not a place in the document.
    fn with_no_place(mut self) -> Self {
        self.locations.clear();
        self
    }
}

/// Gives every error of a response a code, a status and a hint. What has none yet was refused by the schema.
pub(crate) fn with_codes(mut response: Response) -> Response {
    for error in &mut response.errors {
        // The parser quotes the line at fault, and that may be the whole document, twice.
        if let Some((end, _)) = error.message.char_indices().nth(MESSAGE_CHARS_MAX) {
            error.message.truncate(end);
            error.message.push('…');
        }
        let in_field = !error.path.is_empty();
        let extensions = error.extensions.get_or_insert_default();
        if extensions.get("code").is_none() {
            extensions.set("code", if in_field { "UB103" } else { "UB108" });
        }
        let code = match extensions.get("code") {
            Some(async_graphql::Value::String(code)) => code.clone(),
            _ => String::new(),
        };
        if extensions.get("status").is_none() {
            extensions.set("status", ledger::error::http_status(&code));
        }
        if extensions.get("hint").is_none() {
            extensions.set("hint", hint(&code));
        }
    }
    response
}
