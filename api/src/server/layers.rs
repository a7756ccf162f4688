//! What surrounds every handler: limits, counting, security headers, and errors in one form.

use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use axum::body::to_bytes;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use tokio::sync::Semaphore;

use super::problem::{CodeOf, Problem};

/// Requests in progress at most.
const REQUESTS_MAX: usize = 4_096;
/// For a response's head. Longer than the pipeline's own patience, so that its answer wins.
const PATIENCE: Duration = Duration::from_secs(60);

static REQUESTS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(REQUESTS_MAX));

/// The one middleware.
pub(super) async fn around(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_name(request.method());
    let route =
        request.extensions().get::<MatchedPath>().map_or("none".to_owned(), |path| path.as_str().to_owned());
    let mut response = match REQUESTS.try_acquire() {
        Ok(_permit) => handle(request, next).await,
        Err(_) => Problem::new("UB702", "too many requests at once: come back in a moment").into_response(),
    };
    response = in_one_form(response).await;
    secure(response.headers_mut());
    if let Some(CodeOf(code)) = response.extensions_mut().remove::<CodeOf>() {
        metrics::counter!("econ_problems_total", "code" => code).increment(1);
    }
    let status = response.status().as_u16().to_string();
    metrics::counter!("econ_http_requests_total", "route" => route.clone(), "method" => method, "status" => status)
        .increment(1);
    metrics::histogram!("econ_http_request_seconds", "route" => route)
        .record(started.elapsed().as_secs_f64());
    response
}

async fn handle(request: Request, next: Next) -> Response {
    // An upload streams into the handler for as long as it takes; its patience is that of the connection.
    let patience = if request.method() == Method::PUT { PATIENCE * 10 } else { PATIENCE };
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(patience, handled).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!("a request handler panicked");
            Problem::new("UB900", "an internal error; the operator has been alarmed").into_response()
        }
        Err(_) => {
            Problem::new("UB805", "the request took too long: send the same request again").into_response()
        }
    }
}

/// Errors that axum makes itself (a path or query that cannot be read) are plain text: they become problems too.
async fn in_one_form(response: Response) -> Response {
    let status = response.status();
    let plain =
        response.headers().get(CONTENT_TYPE).is_none_or(|value| value.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !plain {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, 1_024).await.ok().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    let detail =
        text.filter(|text| !text.is_empty()).unwrap_or_else(|| "the request cannot be read".to_owned());
    let code = match status.as_u16() {
        404 => "UB402",
        405 => "UB112",
        413 => "UB107",
        415 => "UB106",
        500.. => "UB900",
        _ => "UB103",
    };
    let mut told = Problem::with_status(status.as_u16(), code, detail).into_response();
    if let Some(allow) = parts.headers.get(ALLOW) {
        told.headers_mut().insert(ALLOW, allow.clone());
    }
    told
}

fn secure(headers: &mut HeaderMap) {
    // Pages use their own files only. GraphiQL sets styles on elements and carries its fonts and images as data: URLs.
    const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self' data:; \
         img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// A label of bounded variety, whatever strangers send.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::Path;
    use axum::routing::get;

    async fn told(path: &str) -> (u16, serde_json::Value) {
        use hyper::service::Service as _;
        async fn broken() -> &'static str {
            panic!("on purpose")
        }
        let app = Router::new()
            .route("/number/{n}", get(async |Path(n): Path<u32>| n.to_string()))
            .route("/panic", get(broken))
            .layer(axum::middleware::from_fn(around));
        let request = Request::builder().uri(path).body(axum::body::Body::empty()).unwrap();
        let response = hyper_util::service::TowerToHyperService::new(app).call(request).await.unwrap();
        assert!(response.headers().contains_key(CONTENT_SECURITY_POLICY));
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn every_error_is_a_problem_with_code_and_hint() {
        for (path, status, code) in
            [("/number/x", 400, "UB103"), ("/nowhere", 404, "UB402"), ("/panic", 500, "UB900")]
        {
            let (found, problem) = told(path).await;
            assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{path}");
            assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
        }
        assert_eq!(told("/number/7").await, (200, serde_json::json!(7)));
    }
}
