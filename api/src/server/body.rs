//! Reading a request's body, with a limit in size and time.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use futures_util::StreamExt as _;

use super::problem::Problem;

/// For a whole body that is read into memory.
const PATIENCE: Duration = Duration::from_secs(30);

/// All of a body of at most `bytes_max` bytes. UB107 (413): larger. UB113 (408): too slow. UB103: broken off.
pub(crate) async fn read_body(parts: &Parts, body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let announced = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| bytes > bytes_max) {
        return Err(too_large(bytes_max));
    }
    let read = async {
        let mut chunks = body.into_data_stream();
        let mut whole = Vec::with_capacity(announced.unwrap_or_default());
        while let Some(chunk) = chunks.next().await {
            let broken = |error: axum::Error| Problem::new("UB103", format!("the body broke off: {error}"));
            let chunk = chunk.map_err(broken)?;
            if whole.len() + chunk.len() > bytes_max {
                return Err(too_large(bytes_max));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(Bytes::from(whole))
    };
    let slow = |_| Problem::with_status(408, "UB113", "the body took too long to arrive");
    tokio::time::timeout(PATIENCE, read).await.map_err(slow)?
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::with_status(413, "UB107", format!("the body has more than {bytes_max} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    async fn read(length: Option<&str>, bytes: usize) -> Result<usize, u16> {
        let mut request = Request::builder();
        if let Some(length) = length {
            request = request.header(CONTENT_LENGTH, length);
        }
        let (parts, body) = request.body(Body::from(vec![7; bytes])).unwrap().into_parts();
        read_body(&parts, body, 10).await.map(|body| body.len()).map_err(|problem| problem.status)
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_refused_announced_or_not() {
        assert_eq!(read(None, 10).await, Ok(10));
        assert_eq!(read(None, 11).await, Err(413));
        assert_eq!(read(Some("11"), 5).await, Err(413));
        assert_eq!(read(Some("18446744073709551616"), 5).await, Ok(5));
    }
}
