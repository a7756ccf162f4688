//! Where the house is.

use proto::httpsig::target_uri;

use super::ClientError;

/// `http://host[:port]`, in the one spelling that both sides sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BaseUrl {
    text: String,
    /// Without brackets.
    host: String,
    port: u16,
}

impl BaseUrl {
    pub(super) fn parse(text: &str) -> Result<Self, ClientError> {
        let bad = |why: &str| ClientError::BadUrl { url: text.to_owned(), why: why.to_owned() };
        let url = reqwest::Url::parse(text).map_err(|e| bad(&e.to_string()))?;
        if url.scheme() != "http" {
            return Err(bad("only http:// is spoken here; put a TLS proxy beside it if the way is long"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || url.username() != "" {
            return Err(bad("it must be http://host or http://host:port and nothing more"));
        }
        let host = url.host_str().ok_or_else(|| bad("it names no host"))?;
        let port = url.port_or_known_default().ok_or_else(|| bad("it names no port"))?;
        let whole = target_uri("http", &format!("{host}:{port}"), "/");
        Ok(Self {
            text: whole.trim_end_matches('/').to_owned(),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
        })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The absolute URI of a path that begins with a slash.
    pub(super) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.text)
    }

    /// What a TCP connection needs.
    pub(super) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The same place for a WebSocket.
    pub(super) fn websocket(&self, path: &str) -> String {
        format!("ws{}{path}", self.text.trim_start_matches("http"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_place_is_signed_alike() {
        let check = |text: &str, expected: &str, address: (&str, u16)| {
            let base = BaseUrl::parse(text).unwrap();
            assert_eq!(base.join("/v1/info"), format!("{expected}/v1/info"));
            assert_eq!(base.address(), address);
        };
        check("http://127.0.0.1:8080", "http://127.0.0.1:8080", ("127.0.0.1", 8080));
        check("http://LocalHost:8080/", "http://localhost:8080", ("localhost", 8080));
        check("http://example.org:80", "http://example.org", ("example.org", 80));
        check("http://[::1]:9", "http://[::1]:9", ("::1", 9));
        assert_eq!(BaseUrl::parse("http://[::1]:9").unwrap().websocket("/x"), "ws://[::1]:9/x");
    }

    #[test]
    fn a_place_that_cannot_be_spoken_to_is_refused_with_the_reason() {
        for (text, expected) in [
            ("https://example.org", "only http://"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://a/b", "nothing more"),
            ("http://a/?q", "nothing more"),
            ("http://u@a/", "nothing more"),
            ("", "relative URL"),
        ] {
            let error = BaseUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        }
    }
}
