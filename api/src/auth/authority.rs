//! Under which names this server is reached. A signature names the full URL; if any name were taken, a request signed
//! for one market could be replayed at another where the same key is registered.

use std::net::SocketAddr;

use axum::http::header::HOST;
use axum::http::request::Parts;
use proto::httpsig;

use super::LocalAddr;

/// The accepted authorities: the public URL's, the address that the connection arrived at, and `localhost` with its port.
#[derive(Debug, Clone, Default)]
pub struct Authority {
    public: Option<(String, String)>,
}

impl Authority {
    /// `public_url`: scheme and authority under which others reach this server, as in `https://market.example`; needed
    /// behind a proxy or a host name. An unreadable one is refused with the reason.
    pub fn new(public_url: Option<&str>) -> Result<Self, String> {
        let Some(url) = public_url else {
            return Ok(Self::default());
        };
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| format!("{url:?} is not a URL: write it as https://host"))?;
        let authority = rest.trim_end_matches('/');
        let plain = !authority.is_empty()
            && authority.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@\"".contains(&b));
        if !["http", "https"].contains(&scheme) || !plain {
            return Err(format!(
                "{url:?} must be http or https, a host and perhaps a port, and nothing more"
            ));
        }
        Ok(Self { public: Some((scheme.to_owned(), authority.to_ascii_lowercase())) })
    }

    /// The absolute URL that a request's sender must have signed. `scheme` is `http` or `ws`; it becomes its encrypted
    /// form when the public URL is. Otherwise a sentence that says which names are taken.
    pub(super) fn target_uri(&self, parts: &Parts, scheme: &str) -> Result<String, String> {
        let mut hosts = parts.headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err("the request needs exactly one Host header".to_owned());
        };
        let host = host.to_str().map_err(|_| "the Host header is not ASCII".to_owned())?.to_ascii_lowercase();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        if let Some((public_scheme, public)) = &self.public
            && *public == host
        {
            let secure = if public_scheme == "https" { "s" } else { "" };
            return Ok(httpsig::target_uri(&format!("{scheme}{secure}"), &host, path));
        }
        let local = parts.extensions.get::<LocalAddr>().map(|local| local.0);
        if local.is_some_and(|local| is_local(&host, local)) {
            return Ok(httpsig::target_uri(scheme, &host, path));
        }
        let public = self.public.as_ref().map(|(scheme, host)| format!(" and {scheme}://{host}"));
        Err(format!(
            "this server does not answer for {host:?}: sign and send to the address that it listens on{}; \
             an operator adds a name with --public-url",
            public.unwrap_or_default()
        ))
    }
}

fn is_local(host: &str, local: SocketAddr) -> bool {
    let port = local.port();
    // An IPv4 connection to a dual-stack socket shows itself as ::ffff:a.b.c.d.
    let plain = SocketAddr::new(local.ip().to_canonical(), port).to_string();
    let named = local.ip().to_canonical().is_loopback().then(|| format!("localhost:{port}"));
    let without_port = |text: &str| text.strip_suffix(":80").map(str::to_owned);
    host == plain
        || named.as_deref() == Some(host)
        || (port == 80 && (without_port(&plain).as_deref() == Some(host) || host == "localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn parts(host: &str, local: &str) -> Parts {
        let mut request = Request::builder().uri("/v1/info?x=1").header("host", host).body(()).unwrap();
        request.extensions_mut().insert(LocalAddr(local.parse().unwrap()));
        request.into_parts().0
    }

    #[test]
    fn only_our_own_names_are_taken() {
        let ours = Authority::new(Some("https://Market.example/")).unwrap();
        for (host, local, expected) in [
            ("127.0.0.1:7000", "127.0.0.1:7000", Some("http://127.0.0.1:7000/v1/info?x=1")),
            ("localhost:7000", "127.0.0.1:7000", Some("http://localhost:7000/v1/info?x=1")),
            ("10.0.0.7:7000", "[::ffff:10.0.0.7]:7000", Some("http://10.0.0.7:7000/v1/info?x=1")),
            ("[::1]:7000", "[::1]:7000", Some("http://[::1]:7000/v1/info?x=1")),
            ("localhost", "127.0.0.1:80", Some("http://localhost/v1/info?x=1")),
            ("market.example", "10.0.0.7:7000", Some("https://market.example/v1/info?x=1")),
            ("MARKET.example", "10.0.0.7:7000", Some("https://market.example/v1/info?x=1")),
            ("localhost:7000", "10.0.0.7:7000", None),
            ("127.0.0.1:7001", "127.0.0.1:7000", None),
            ("other.example", "10.0.0.7:7000", None),
        ] {
            let found = ours.target_uri(&parts(host, local), "http").ok();
            assert_eq!(found.as_deref(), expected, "{host} at {local}");
        }
        let upgraded = ours.target_uri(&parts("market.example", "10.0.0.7:7000"), "ws");
        assert_eq!(upgraded.as_deref(), Ok("wss://market.example/v1/info?x=1"));
    }

    #[test]
    fn a_public_url_is_a_scheme_and_an_authority() {
        for url in [
            "market.example",
            "ftp://market.example",
            "https://",
            "https://a/b",
            "https://u@a",
            "https://a?b",
        ] {
            assert!(Authority::new(Some(url)).is_err(), "{url}");
        }
        assert!(Authority::new(None).is_ok());
    }
}
