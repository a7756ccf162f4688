use proptest::prelude::*;

use super::*;
use crate::keys::{KeyId, KeyPair, PublicKey};

const URI: &str = "https://econ.example/v1/commands";
const BODY: &[u8] = b"the body";
const NOW: i64 = 1_732_000_000;

fn key() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

fn command() -> RequestToSign<'static> {
    RequestToSign {
        method: "POST",
        target_uri: URI,
        content_type: Some("application/x-protobuf"),
        body: Some(BodyDigest::of(BODY)),
        idempotency_key: Some("order-1"),
    }
}

fn read() -> RequestToSign<'static> {
    RequestToSign { method: "GET", content_type: None, body: None, idempotency_key: None, ..command() }
}

fn validity() -> Validity {
    Validity { created: NOW, expires: NOW + 60, nonce: "0123456789abcdef".into() }
}

type Headers = Vec<(String, String)>;

fn signed(request: &RequestToSign<'_>) -> Headers {
    let signed = sign_request(&key(), request, &validity()).unwrap();
    signed.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn parse_headers(
    method: &str,
    uri: &str,
    headers: &Headers,
    coverage: Coverage,
) -> Result<ParsedSignature, HttpSigError> {
    parse(method, uri, headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())), coverage)
}

fn parse_command(headers: &Headers) -> Result<ParsedSignature, HttpSigError> {
    parse_headers("POST", URI, headers, Coverage::Command)
}

fn set(headers: &mut Headers, name: &str, change: impl Fn(&str) -> String) {
    let header = headers.iter_mut().find(|(n, _)| n == name).unwrap();
    header.1 = change(&header.1);
}

#[test]
fn a_signed_command_is_verified_by_server_and_auditor() {
    let parsed = parse_command(&signed(&command())).unwrap();
    assert_eq!(parsed.check_window(NOW + 1, 5, 300), Ok(()));
    assert_eq!(parsed.verify(key().public()), Ok(()));
    assert_eq!(parsed.check_body(BODY), Ok(()));
    let request = SignedRequest {
        components: Component::ALL.to_vec(),
        method: "POST".into(),
        target_uri: URI.into(),
        content_type: Some("application/x-protobuf".into()),
        content_digest: Some(BodyDigest::of(BODY)),
        idempotency_key: Some("order-1".into()),
        key_id: key().id(),
        created: NOW,
        expires: NOW + 60,
        nonce: "0123456789abcdef".into(),
    };
    assert_eq!(parsed.request, request);

    assert_eq!(verify_stored(&parsed.base, &parsed.signature, key().public()), Ok(()));
    assert_eq!(read_base(&parsed.base).unwrap(), request);
    assert_eq!(read_base(&parsed.base).unwrap().check_body(b"another"), Err(HttpSigError::DigestMismatch));
}

#[test]
fn the_base_is_exactly_this() {
    let signed = sign_request(&key(), &command(), &validity()).unwrap();
    let key_id = key().id();
    assert_eq!(
        String::from_utf8(signed.signature_base).unwrap(),
        format!(
            "\"@method\": POST\n\
             \"@target-uri\": https://econ.example/v1/commands\n\
             \"content-type\": application/x-protobuf\n\
             \"content-digest\": {}\n\
             \"idempotency-key\": \"order-1\"\n\
             \"@signature-params\": (\"@method\" \"@target-uri\" \"content-type\" \"content-digest\" \
             \"idempotency-key\");created=1732000000;expires=1732000060;nonce=\"0123456789abcdef\";\
             keyid=\"{key_id}\";tag=\"econ\"",
            BodyDigest::of(BODY).header_value()
        )
    );
}

/// RFC 9421, appendix B.2.6, retyped: key, base and signature.
#[test]
fn the_signature_of_rfc_9421_verifies() {
    let key = URL_KEY.parse::<PublicKey>().unwrap();
    let base = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\
                \"@method\": POST\n\
                \"@path\": /foo\n\
                \"@authority\": example.com\n\
                \"content-type\": application/json\n\
                \"content-length\": 18\n\
                \"@signature-params\": (\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \
                \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"";
    let signature = BASE64
        .decode("wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==")
        .unwrap();
    assert_eq!(verify_stored(base.as_bytes(), &signature, &key), Ok(()));
    let tampered = base.replace("/foo", "/bar");
    assert_eq!(
        verify_stored(tampered.as_bytes(), &signature, &key),
        Err(HttpSigError::BadSignature(key.id()))
    );
    // Genuine, but no base of this application.
    assert_eq!(read_base(base.as_bytes()), Err(HttpSigError::UnsupportedComponent("date".into())));
}

/// JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs, in hex.
const URL_KEY: &str = "26b40b8f93fff3d897112f7ebc582b232dbd72517d082fe83cfb30ddce43d1bb";

/// Signed by another implementation: PyPI `http-message-signatures` 3.0.0, key of RFC 8032 test 2. Its labels, the
/// order of its parameters and of the components differ from ours, and it writes `alg`.
#[test]
fn requests_signed_by_another_implementation_verify() {
    let public: PublicKey =
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c".parse().unwrap();
    let params = ";created=1732000000;keyid=\"1027e035b26b605dc6d4b78d07dc29660fcc3498b598a2e57c4e6b1b673a1e95\";\
                  alg=\"ed25519\";expires=1732000060;nonce=\"YmFzZTY0bm9uY2Uxxyz\";tag=\"econ\"";
    let post: Headers = [
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "\"k-1\""),
        ("Content-Length", "32"),
        ("Content-Digest", "sha-256=:xYYdn85DXsh8LU+U2brbPjH6WnFFyQ1S5nAgHZLF1uw=:"),
        (
            "Signature-Input",
            &format!(
                "py=(\"idempotency-key\" \"@method\" \"@target-uri\" \"content-type\" \"content-digest\"){params}"
            ),
        ),
        (
            "Signature",
            "py=:p6yTMTsRwPOr+uym/ktSaaG5JUHEtietoyhBzxuBf8J3U84D5obNGPSLI71+Rb+34stm6DdAVSCvStDDL58NCw==:",
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let uri = "https://econ.example/graphql?op=1";
    let parsed = parse_headers("POST", uri, &post, Coverage::Command).unwrap();
    assert_eq!(parsed.verify(&public), Ok(()));
    assert_eq!(parsed.check_body(br#"{"query":"mutation { openRfq }"}"#), Ok(()));
    assert_eq!(parsed.request.idempotency_key.as_deref(), Some("k-1"));

    let get: Headers = [
        ("Signature-Input", format!("py=(\"@method\" \"@target-uri\"){params}")),
        (
            "Signature",
            "py=:q1JgCERUsBHx96bHRFKDA8sYilkXvC4YMaJzR0GPHJfnm3SQ4NAoeE/0IXHD2/J2RNWlJUQE5cfyjrhUsX9YBA==:"
                .into(),
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    let parsed = parse_headers("GET", "https://econ.example/v1/receipts/7", &get, Coverage::Read).unwrap();
    assert_eq!(parsed.verify(&public), Ok(()));
    assert_eq!(parsed.check_body(b""), Ok(()));
}

/// The other way round: the same implementation verified these headers, and refused another body and content type.
#[test]
fn what_we_sign_is_frozen_as_another_implementation_verified_it() {
    let mut seed = [0; 32];
    hex::decode_to_slice("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", &mut seed)
        .unwrap();
    let validity = Validity { created: 4_000_000_000, expires: 4_000_000_060, ..validity() };
    let signed = sign_request(&KeyPair::from_seed(&seed), &command(), &validity).unwrap();
    let headers: Vec<_> = signed.headers().collect();
    assert_eq!(
        headers,
        [
            ("content-type", "application/x-protobuf"),
            ("content-digest", "sha-256=:+oJC6Z9IlmylFAkrQjO0RoUfQrV61QMb8TPh3XZ4fz4=:"),
            ("idempotency-key", "\"order-1\""),
            (
                "signature-input",
                "econ=(\"@method\" \"@target-uri\" \"content-type\" \"content-digest\" \"idempotency-key\");\
                 created=4000000000;expires=4000000060;nonce=\"0123456789abcdef\";\
                 keyid=\"1027e035b26b605dc6d4b78d07dc29660fcc3498b598a2e57c4e6b1b673a1e95\";tag=\"econ\""
            ),
            (
                "signature",
                "econ=:Ua0HJ7JTy0X90JY7Dljw4O5fVIuYlzSzBahqk/4YXMzzX2YEMPkvfa97wBEG96vfHYaawsiq/prhAHU6bMgPCA==:"
            ),
        ]
    );
}

#[test]
fn each_wrong_request_has_its_own_refusal() {
    use HttpSigError as E;
    let check = |change: &dyn Fn(&mut Headers), refusal: HttpSigError| {
        let mut headers = signed(&command());
        change(&mut headers);
        assert_eq!(parse_command(&headers), Err(refusal));
    };
    let drop_header = |name: &'static str| move |h: &mut Headers| h.retain(|(n, _)| n != name);
    for name in ["signature-input", "signature", "content-type", "content-digest", "idempotency-key"] {
        check(&drop_header(name), E::MissingHeader(name));
    }
    let repeat = |name: &'static str| {
        move |h: &mut Headers| h.push(h.iter().find(|(n, _)| n == name).unwrap().clone())
    };
    for name in ["content-type", "content-digest", "idempotency-key"] {
        check(&repeat(name), E::RepeatedHeader(name));
    }
    check(&repeat("signature-input"), E::DuplicateLabel("econ".into()));
    check(&repeat("signature"), E::DuplicateLabel("econ".into()));

    let input = |from: &'static str, to: &'static str| {
        move |h: &mut Headers| {
            set(h, "signature-input", |value| {
                assert!(value.contains(from), "{from}");
                value.replacen(from, to, 1)
            })
        }
    };
    check(&input(";tag=\"econ\"", ""), E::UnknownTag);
    check(&input("tag=\"econ\"", "tag=\"other\""), E::UnknownTag);
    check(&input("tag=\"econ\"", "tag=econ"), E::UnknownTag);
    check(&input(";tag", ";created=1;tag"), E::DuplicateParameter("created".into()));
    check(&input(";tag", ";scope=\"x\";tag"), E::UnknownParameter("scope".into()));
    check(&input(";tag", ";alg=\"ed25519\";alg=\"ed25519\";tag"), E::DuplicateParameter("alg".into()));
    check(&input(";created=1732000000", ""), E::MissingParameter("created"));
    check(&input(";expires=1732000060", ""), E::MissingParameter("expires"));
    check(&input(";nonce=\"0123456789abcdef\"", ""), E::MissingParameter("nonce"));
    check(&input("\"content-digest\" ", ""), E::NotCovered(Component::ContentDigest));
    check(&input(" \"idempotency-key\"", ""), E::NotCovered(Component::IdempotencyKey));
    check(&input("\"@method\" ", ""), E::NotCovered(Component::Method));
    check(&input("\"@method\"", "\"@method\" \"@method\""), E::RepeatedComponent(Component::Method));
    check(&input("\"@method\"", "\"@method\" \"date\""), E::UnsupportedComponent("date".into()));
    check(
        &input("\"content-type\"", "\"content-type\";sf"),
        E::UnsupportedComponent("content-type with parameters".into()),
    );
    check(&input("\"@method\"", "method"), E::UnsupportedComponent("something that is not a string".into()));
    let wrong = |name, why| E::WrongParameter { name, why };
    check(&input(";tag", ";alg=\"rsa-pss-sha512\";tag"), wrong("alg", "only \"ed25519\" is accepted"));
    check(&input("=1732000000", "=\"now\""), wrong("created", "it must be a whole number of Unix seconds"));
    check(&input("=1732000060", "=-5"), wrong("expires", "it must be a whole number of Unix seconds"));
    check(&input("=1732000060", "=1731999999"), wrong("expires", "it lies before created"));
    check(
        &input("0123456789abcdef", "0123456789abcde"),
        wrong("nonce", "it must have 16 to 128 visible characters, new for each request"),
    );
    check(
        &input("keyid=\"", "keyid=\"A"),
        wrong("keyid", "it must be BLAKE3 of the public key as 64 lowercase hex digits"),
    );
    check(
        &input("nonce=\"0123456789abcdef\"", "nonce=5"),
        wrong("nonce", "it must be a string in double quotes"),
    );
    check(
        &|h| set(h, "signature", |value| value.replacen("econ", "other", 1)),
        E::SignatureMissing("econ".into()),
    );
    check(&|h| set(h, "signature", |_| "econ=:AAAA:".into()), E::MalformedSignature);
    check(&|h| set(h, "signature", |_| "econ=\"x\"".into()), E::MalformedSignature);
    check(
        &|h| {
            let mut second = h.iter().find(|(n, _)| n == "signature-input").unwrap().clone();
            second.1 = second.1.replacen("econ=", "two=", 1);
            h.push(second);
        },
        E::SeveralSignatures,
    );
    let digest = |value: &'static str| move |h: &mut Headers| set(h, "content-digest", |_| value.into());
    let why = "it must be exactly one digest, as in sha-256=:base64 of 32 bytes:";
    for value in [
        "sha-512=:AAAA:",
        "sha-256=:AAAA:",
        "sha-256=:xYYdn85DXsh8LU+U2brbPjH6WnFFyQ1S5nAgHZLF1uw=:, sha-512=:AAAA:",
        "sha-256=:xYYdn85DXsh8LU+U2brbPjH6WnFFyQ1S5nAgHZLF1uw=:;x",
        "sha-256=\"xYYd\"",
    ] {
        check(&digest(value), E::MalformedHeader { header: "content-digest", why: why.into() });
    }
    check(
        &|h| set(h, "content-type", |_| "a\u{e9}".into()),
        E::MalformedHeader {
            header: "content-type",
            why: "it holds something other than printable ASCII".into(),
        },
    );
    check(
        &|h| set(h, "content-type", |_| "a\nb".into()),
        E::MalformedHeader {
            header: "content-type",
            why: "it holds something other than printable ASCII".into(),
        },
    );
    check(
        &|h| set(h, "signature-input", |_| "x".repeat(5000)),
        E::MalformedHeader { header: "signature-input", why: "it is longer than 4096 bytes".into() },
    );
    for value in ["", "a b", "a\"b", "\"a b\"", "\"a\\\"b\"", &"x".repeat(256)] {
        let mut headers = signed(&command());
        set(&mut headers, "idempotency-key", |_| value.into());
        let refusal = parse_command(&headers).unwrap_err();
        assert!(
            matches!(refusal, E::MalformedHeader { header: "idempotency-key", .. }),
            "{value}: {refusal}"
        );
    }
    for value in ["econ", "econ=(", "=", "econ=(\"@method\"", "\u{1}"] {
        let mut headers = signed(&command());
        set(&mut headers, "signature-input", |_| value.into());
        assert!(parse_command(&headers).is_err(), "{value}");
    }
}

#[test]
fn methods_and_targets_must_be_what_they_claim() {
    let headers = signed(&read());
    let check = |method: &str, uri: &str, refusal: HttpSigError| {
        assert_eq!(parse_headers(method, uri, &headers, Coverage::Read), Err(refusal), "{method} {uri}");
    };
    for method in ["get", "", "GET\n", "G T"] {
        check(method, URI, HttpSigError::MalformedMethod(method.into()));
    }
    for uri in [
        "",
        "/v1/commands",
        "https://",
        "https:///x",
        "ftp://x/",
        "https://x/#f",
        "https://x/a b",
        "https://x/\n",
    ] {
        check("GET", uri, HttpSigError::MalformedTargetUri);
        let request = RequestToSign { target_uri: uri, ..read() };
        assert!(sign_request(&key(), &request, &validity()).is_err(), "{uri}");
    }
}

#[test]
fn whatever_is_covered_cannot_be_changed() {
    let bad = Err(HttpSigError::BadSignature(key().id()));
    let headers = signed(&command());
    let parsed = parse_headers("PUT", URI, &headers, Coverage::Command).unwrap();
    assert_eq!(parsed.verify(key().public()), bad);
    let other = format!("{URI}?x=1");
    assert_eq!(
        parse_headers("POST", &other, &headers, Coverage::Command).unwrap().verify(key().public()),
        bad
    );
    for (name, from, to) in [
        ("content-type", "protobuf", "Protobuf"),
        ("idempotency-key", "order-1", "order-2"),
        ("signature-input", "1732000060", "1732009999"),
        ("signature-input", "0123456789abcdef", "0123456789abcdeF"),
        ("content-digest", &BASE64.encode(BodyDigest::of(BODY).0), &BASE64.encode([7; 32])),
        // The same key in its other spelling: one meaning, but other signed bytes.
        ("idempotency-key", "\"order-1\"", "order-1"),
    ] {
        let mut headers = signed(&command());
        set(&mut headers, name, |value| value.replacen(from, to, 1));
        let parsed = parse_command(&headers).unwrap();
        assert_eq!(parsed.verify(key().public()), bad, "{name}: {from} to {to}");
    }
    for bit in 0..512 {
        let mut parsed = parse_command(&headers).unwrap();
        parsed.signature[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(parsed.verify(key().public()), bad, "signature bit {bit}");
    }
}

#[test]
fn a_signature_is_checked_with_the_key_it_names_only() {
    let parsed = parse_command(&signed(&command())).unwrap();
    let other = KeyPair::from_seed(&[2; 32]);
    let refusal = HttpSigError::OtherKey { named: key().id(), offered: other.id() };
    assert_eq!(parsed.verify(other.public()), Err(refusal));
}

#[test]
fn a_signature_is_good_in_its_window_only() {
    let parsed = parse_command(&signed(&command())).unwrap();
    let check = |now, answer| assert_eq!(parsed.check_window(now, 5, 30), answer, "{now}");
    check(NOW - 6, Err(HttpSigError::FromTheFuture { ahead_s: 6 }));
    check(NOW - 5, Ok(()));
    check(NOW, Ok(()));
    check(NOW + 35, Ok(()));
    check(NOW + 36, Err(HttpSigError::Stale { age_s: 36, max_age_s: 30 }));
    check(NOW + 66, Err(HttpSigError::Expired { ago_s: 6 }));
    check(i64::MAX, Err(HttpSigError::Expired { ago_s: i64::MAX - NOW - 60 }));
    check(i64::MIN, Err(HttpSigError::FromTheFuture { ahead_s: i64::MAX }));
    assert_eq!(parsed.check_window(NOW + 65, 5, 300), Ok(()));
}

#[test]
fn a_body_needs_a_covered_digest() {
    let mut headers = signed(&read());
    let parsed = parse_headers("GET", URI, &headers, Coverage::Read).unwrap();
    assert_eq!(parsed.check_body(b""), Ok(()));
    assert_eq!(parsed.check_body(b"x"), Err(HttpSigError::BodyNotCovered));
    // An uncovered header is nobody's word.
    headers.push(("content-digest".into(), BodyDigest::of(b"x").header_value()));
    headers.push(("idempotency-key".into(), "\"k\"".into()));
    let parsed = parse_headers("GET", URI, &headers, Coverage::Read).unwrap();
    assert_eq!(parsed.check_body(b"x"), Err(HttpSigError::BodyNotCovered));
    assert_eq!(parsed.request.idempotency_key, None);

    let empty = RequestToSign { body: Some(BodyDigest::of(b"")), ..command() };
    let parsed = parse_command(&signed(&empty)).unwrap();
    assert_eq!(parsed.check_body(b""), Ok(()));
    assert_eq!(parsed.check_body(b"x"), Err(HttpSigError::DigestMismatch));
}

#[test]
fn an_upload_needs_no_idempotency_key_but_a_command_does() {
    let upload = RequestToSign { method: "PUT", idempotency_key: None, ..command() };
    let headers = signed(&upload);
    assert!(parse_headers("PUT", URI, &headers, Coverage::Upload).unwrap().verify(key().public()).is_ok());
    assert_eq!(
        parse_headers("PUT", URI, &headers, Coverage::Command),
        Err(HttpSigError::NotCovered(Component::IdempotencyKey))
    );
    assert_eq!(
        parse_headers("GET", URI, &signed(&read()), Coverage::Upload),
        Err(HttpSigError::NotCovered(Component::ContentType))
    );
}

#[test]
fn signatures_of_others_are_passed_over() {
    let mut headers = signed(&command());
    headers.insert(0, ("Signature-Input".into(), "proxy=(\"date\" \"x\";sf);created=1;tag=\"proxy\"".into()));
    headers.insert(1, ("SIGNATURE".into(), "proxy=:AAAA:".into()));
    assert_eq!(parse_command(&headers).unwrap().verify(key().public()), Ok(()));
}

#[test]
fn a_base_has_one_reading() {
    let base = sign_request(&key(), &command(), &validity()).unwrap().signature_base;
    let text = String::from_utf8(base).unwrap();
    let check = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        let changed = text.replacen(from, to, 1);
        assert!(read_base(changed.as_bytes()).is_err(), "{changed}");
    };
    check("\"@method\": POST\n", "");
    check("\"@method\": POST\n", "\"@method\": POST\n\"@method\": POST\n");
    check("\"@method\": POST\n", "\n\"@method\": POST\n");
    check("\"@method\": POST", "@method: POST");
    check(";created", "; created");
    check("(\"@method\" \"@target-uri\"", "(\"@target-uri\" \"@method\"");
    check("(\"@method\"", "( \"@method\"");
    check(";tag=\"econ\"", ";tag=\"econ\", ()");
    check("\"@signature-params\"", "\"@signature-param\"");
    assert!(read_base(b"").is_err());
    assert!(read_base(b"DSSEv1 1 a 1 b").is_err());
    assert!(read_base(format!("{text}\n").as_bytes()).is_err());
    assert!(read_base(b"\xff").is_err());
}

#[test]
fn a_client_cannot_sign_what_a_server_would_refuse() {
    let refused = |request: RequestToSign<'_>, validity: Validity| {
        sign_request(&key(), &request, &validity).expect_err("refused")
    };
    let short = Validity { nonce: "short".into(), ..validity() };
    assert!(matches!(refused(command(), short), HttpSigError::WrongParameter { name: "nonce", .. }));
    let backwards = Validity { expires: NOW - 1, ..validity() };
    assert!(matches!(refused(command(), backwards), HttpSigError::WrongParameter { name: "expires", .. }));
    for key in ["", "a b", "a\"b", "a\n\"@method\": GET"] {
        refused(RequestToSign { idempotency_key: Some(key), ..command() }, validity());
    }
    refused(RequestToSign { content_type: Some("a\n\"@method\": GET"), ..command() }, validity());
}

#[test]
fn both_sides_write_the_target_alike() {
    for (scheme, authority, path, uri) in [
        ("https", "Econ.Example:443", "/a?B=c", "https://econ.example/a?B=c"),
        ("HTTP", "127.0.0.1:8080", "/", "http://127.0.0.1:8080/"),
        ("http", "h:80", "", "http://h/"),
        ("https", "h:80", "?q", "https://h:80/?q"),
    ] {
        assert_eq!(target_uri(scheme, authority, path), uri);
    }
}

#[test]
fn fresh_nonces_are_accepted_and_differ() {
    let (a, b) = (fresh_nonce().unwrap(), fresh_nonce().unwrap());
    assert_ne!(a, b);
    assert!(sign_request(&key(), &read(), &Validity { nonce: a, ..validity() }).is_ok());
}

proptest! {
    #[test]
    fn whatever_is_signed_comes_back_as_it_was(
        path in "/[a-zA-Z0-9/._~%?=&-]{0,40}",
        content_type in "[a-z]{1,10}/[a-z.+]{1,20}(; charset=utf-8)?",
        idempotency_key in "[a-zA-Z0-9._:-]{1,255}",
        nonce in "[!-~]{16,128}",
        body in proptest::collection::vec(any::<u8>(), 0..100),
        created in 0..10_000_000_000_i64,
        lifetime in 0..10_000_i64,
        seed in any::<[u8; 32]>(),
    ) {
        let key = KeyPair::from_seed(&seed);
        let uri = format!("https://h.example{path}");
        let request = RequestToSign {
            method: "POST",
            target_uri: &uri,
            content_type: Some(&content_type),
            body: Some(BodyDigest::of(&body)),
            idempotency_key: Some(&idempotency_key),
        };
        let validity = Validity { created, expires: created + lifetime, nonce };
        let signed = sign_request(&key, &request, &validity).unwrap();
        let headers: Headers =
            signed.headers().map(|(name, value)| (name.to_uppercase(), format!(" {value}\t"))).collect();
        let parsed = parse_headers("POST", &uri, &headers, Coverage::Command).unwrap();
        prop_assert_eq!(parsed.verify(key.public()), Ok(()));
        prop_assert_eq!(parsed.check_body(&body), Ok(()));
        prop_assert_eq!(&parsed.base, &signed.signature_base);
        let read = read_base(&parsed.base).unwrap();
        prop_assert_eq!(&read, &parsed.request);
        prop_assert_eq!(read.target_uri, uri);
        prop_assert_eq!(read.content_type, Some(content_type));
        prop_assert_eq!(read.idempotency_key, Some(idempotency_key));
        prop_assert_eq!(read.nonce, validity.nonce);
        prop_assert_eq!((read.created, read.expires), (created, created + lifetime));
    }

    #[test]
    fn rubbish_is_refused_and_never_panics(input in ".{0,80}", signature in ".{0,80}", base in any::<Vec<u8>>()) {
        let headers = vec![("signature-input".to_owned(), input), ("signature".to_owned(), signature)];
        prop_assert!(parse_headers("GET", URI, &headers, Coverage::Read).is_err());
        prop_assert!(read_base(&base).is_err());
    }

    #[test]
    fn a_changed_byte_of_a_base_never_verifies(at in 0..400_usize, flip in 1..=255_u8) {
        let parsed = parse_command(&signed(&command())).unwrap();
        let mut base = parsed.base.clone();
        let at = at % base.len();
        base[at] ^= flip;
        prop_assert!(verify_stored(&base, &parsed.signature, key().public()).is_err());
    }
}

#[test]
fn refusals_have_distinct_slugs() {
    let key_id = KeyId::of(b"");
    let errors = [
        HttpSigError::MissingHeader("a"),
        HttpSigError::RepeatedHeader("a"),
        HttpSigError::DigestMismatch,
        HttpSigError::BodyNotCovered,
        HttpSigError::UnknownTag,
        HttpSigError::BadSignature(key_id),
        HttpSigError::NotCovered(Component::Method),
    ];
    let slugs: std::collections::BTreeSet<_> = errors.iter().map(HttpSigError::slug).collect();
    assert_eq!(slugs.len(), errors.len());
}
