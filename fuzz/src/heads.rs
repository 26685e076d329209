//! Heads of requests: their framing, their method and path.

use super::files::plan;
use super::{line, shown};
use pointsman::base::percent;
use pointsman::proxy::framing::{FIELD_MAX, HeadFault, check};
use pointsman::route::{Endpoint, MODEL_BYTES_MAX, Named, endpoint, resolve};

/// Any head and what follows it: one that passes is read by httparse too, to the same end, and says in
/// one way only where its body ends and whom it is for; what follows it has no say, and without its end
/// it does not pass.
pub fn head(input: &[u8]) {
    let verdict = check(input);
    if verdict == Err(HeadFault::TooLarge) {
        assert!(input.len() > FIELD_MAX);
    }
    let Ok(bounds) = verdict else { return };
    let end = 4 + input.windows(4).position(|four| four == b"\r\n\r\n").expect("a head ends");
    let (head, _) = input.split_at(end);
    assert_eq!(bounds.head, end, "{}", shown(input));
    assert_eq!(check(head), Ok(bounds), "{}", shown(input));
    assert_eq!(check(&[head, b"GET / HTTP/1.1\r\n: \0"].concat()), Ok(bounds));
    assert!(check(&head[..end - 1]).is_err() && check(&head[..end - 2]).is_err());
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    // It is stricter with some targets; what neither takes harms nobody.
    let Ok(parsed) = request.parse(input) else { return };
    assert_eq!(parsed, httparse::Status::Complete(end), "{}", shown(input));
    let values = |name: &str| {
        let is_it = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
        request.headers.iter().filter(is_it).map(|field| field.value.trim_ascii()).collect::<Vec<_>>()
    };
    let (lengths, codings, hosts) = (values("content-length"), values("transfer-encoding"), values("host"));
    assert!(lengths.len() + codings.len() <= 1 && hosts.len() <= 1, "{}", shown(input));
    let said =
        lengths.first().map(|value| std::str::from_utf8(value).expect("digits").parse().expect("a length"));
    assert_eq!(bounds.body, said, "{}", shown(input));
    assert!(codings.iter().all(|value| value.eq_ignore_ascii_case(b"chunked")));
    assert!(hosts.len() == 1 || request.version == Some(0));
    assert!(codings.is_empty() || request.version == Some(1));
}

/// Any method, path and model, a line each: nothing that is forwarded or names a model leaves its
/// prefix or hides a control character; a slash at the end is the same path; a model of a path comes
/// back as it is when it is written again; what names a provider's model is fit to be sent to it.
pub fn path(input: &[u8]) {
    let mut rest = input;
    let (method, path) = (line(&mut rest), line(&mut rest));
    let (Ok(method), Ok(path)) = (std::str::from_utf8(method), std::str::from_utf8(path)) else { return };
    let found = endpoint(method, path);
    match &found {
        Endpoint::BadPath(_) | Endpoint::NotFound | Endpoint::MethodNotAllowed(_) => {}
        _ => unambiguous(path),
    }
    if !matches!(found, Endpoint::BadPath(_)) && !path.ends_with('/') && path.starts_with('/') {
        assert_eq!(endpoint(method, &format!("{path}/")), found, "{method} {path}");
    }
    match &found {
        Endpoint::Llm(call) => {
            assert_eq!(method, "POST");
            let model = call.in_path.as_ref().map(|in_path| in_path.model.as_str());
            assert!(model.is_none_or(|model| !model.is_empty() && !model.chars().any(char::is_control)));
        }
        Endpoint::Model(id) | Endpoint::GeminiModel(id) => {
            let prefix = if path.starts_with("/v1beta/") { "/v1beta/models/" } else { "/v1/models/" };
            assert_eq!(&endpoint(method, &format!("{prefix}{}", escaped(id))), &found, "{path}");
        }
        Endpoint::PassThrough => assert!(path.starts_with("/v1/"), "{path}"),
        Endpoint::Models
        | Endpoint::GeminiModels
        | Endpoint::Health
        | Endpoint::NotFound
        | Endpoint::MethodNotAllowed(_)
        | Endpoint::BadPath(_) => {}
    }
    named(std::str::from_utf8(line(&mut rest)).ok());
}

fn unambiguous(path: &str) {
    let decoded = percent::decode_utf8(path).expect("what passes decodes");
    assert!(decoded.split('/').all(|segment| !matches!(segment, "." | "..")), "{path}");
    assert!(!decoded.contains("//") && !decoded.contains(['\\', ';']), "{path}");
    assert!(!decoded.bytes().any(|byte| byte.is_ascii_control()), "{path}");
    assert_eq!(path.matches('/').count(), decoded.matches('/').count(), "{path} hides a slash");
}

/// Writes all but letters, digits and slashes as escapes where that may be.
fn escaped(id: &str) -> String {
    let as_it_is = |byte: u8| byte.is_ascii_alphanumeric() || b"/.%".contains(&byte);
    id.bytes().map(|b| if as_it_is(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn named(model: Option<&str>) {
    let plan = plan();
    match resolve(plan, model) {
        Ok(Named::Route(route)) => assert!((route.0 as usize) < plan.routes.len()),
        Ok(Named::Direct { provider, model: rest }) => {
            let name = &plan.providers[provider.0 as usize].name;
            assert_eq!(model, Some(format!("{name}/{rest}").as_str()));
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b);
            assert!(rest.len() <= MODEL_BYTES_MAX && rest.bytes().all(is_plain), "{rest}");
            assert!(rest.split('/').all(|segment| !matches!(segment, "" | "." | "..")), "{rest}");
        }
        Err(unknown) => assert!(unknown.nearest.len() <= 3),
    }
}
