//! Files of the pages, compiled in: nothing is fetched from anywhere else.

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::response::{Html, IntoResponse as _, Response};

use super::problem::Problem;

struct Asset {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

macro_rules! asset {
    ($name:literal, $media_type:expr) => {
        Asset { name: $name, media_type: $media_type, bytes: include_bytes!(concat!("../../assets/", $name)) }
    };
}

static ASSETS: &[Asset] = &[
    asset!("econ.css", STYLE),
    asset!("graphiql.css", STYLE),
    asset!("graphiql.js", SCRIPT),
    asset!("vendor/graphiql.min.css", STYLE),
    asset!("vendor/graphiql.min.js", SCRIPT),
    asset!("vendor/react.production.min.js", SCRIPT),
    asset!("vendor/react-dom.production.min.js", SCRIPT),
    asset!("vendor/graphiql.LICENSE", TEXT),
    asset!("vendor/react.LICENSE", TEXT),
];

/// GET /assets/{name}.
pub(crate) async fn asset(Path(name): Path<String>) -> Result<Response, Problem> {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    let asset = asset.ok_or_else(|| Problem::new("UB402", "there is no such file"))?;
    // The names carry no version: a new binary may change them.
    let headers = [
        (CONTENT_TYPE, asset.media_type.to_owned()),
        (CACHE_CONTROL, "public, max-age=3600".to_owned()),
        (ETAG, format!("\"{}\"", &blake3::hash(asset.bytes).to_hex()[..16])),
    ];
    Ok((headers, asset.bytes).into_response())
}

/// GET /graphql: GraphiQL.
pub(crate) async fn graphiql() -> Response {
    Html(include_str!("../../assets/graphiql.html")).into_response()
}
