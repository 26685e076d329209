//! What goes out at `/ui`: its head, its files, and who gets them. `scripts/ui` looks at it in a browser.

use super::*;
use base64::prelude::{BASE64_STANDARD, Engine as _};

/// The value of a field of an answer's head, which is lower case there.
fn field<'a>(told: &'a Told, name: &str) -> Option<&'a str> {
    told.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn the_page_may_load_and_call_nothing_but_its_own_origin() {
    let served = Served::new(Cards::default()).await;
    for (path, kind) in [
        ("/ui", "text/html"),
        ("/ui/", "text/html"),
        ("/ui/app.js", "text/javascript"),
        ("/ui/style.css", "text/css"),
    ] {
        let told = served.get(path).await;
        assert_eq!(told.status, 200, "{path} {told:?}");
        for (name, value) in [
            (
                "content-security-policy",
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(field(&told, name), Some(value), "{path}");
            assert_eq!(told.head.matches(&format!("{name}:")).count(), 1, "{path} {name}");
        }
        assert_eq!(field(&told, "content-type"), Some(format!("{kind}; charset=utf-8").as_str()), "{path}");
        assert!(!told.head.contains("access-control"), "{path} {told:?}");
    }
    let told = served.post("/ui").await;
    assert!(told.is_problem(405), "{told:?}");
}

#[tokio::test]
async fn the_page_names_no_other_host_and_has_nothing_inline() {
    let served = Served::new(Cards::default()).await;
    for path in ["/ui", "/ui/app.js", "/ui/style.css"] {
        let body = served.get(path).await.body;
        let hosts: Vec<&str> = body.match_indices("://").map(|(at, _)| body.split_at(at + 3).1).collect();
        // Both are names of a format and are never fetched.
        assert!(hosts.iter().all(|rest| rest.starts_with("www.w3.org/2000/svg")), "{path} {hosts:?}");
        for word in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"]
        {
            let is_said_to_be_missing = word == "innerHTML" && body.contains("no innerHTML here");
            assert!(
                !body.contains(word) || is_said_to_be_missing && body.matches(word).count() == 1,
                "{path} {word}"
            );
        }
    }
    let page = served.get("/ui").await.body;
    for word in ["<style", " style=", " onclick=", "javascript:"] {
        assert!(!page.contains(word), "{word}");
    }
    assert_eq!(page.matches("<script").count(), 1, "the one with src");
}

#[tokio::test]
async fn a_browser_that_has_the_page_is_told_so() {
    let served = Served::new(Cards::default()).await;
    let first = served.get("/ui/app.js").await;
    let tag = field(&first, "etag").expect("a tag").to_owned();
    for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let told = served.call("GET", "/ui/app.js", &format!("if-none-match: {known}\r\n")).await;
        assert_eq!((told.status, told.body.as_str()), (304, ""), "{known} {told:?}");
        assert_eq!(field(&told, "etag"), Some(tag.as_str()));
        assert!(field(&told, "content-security-policy").is_some());
    }
    for (path, known) in [("/ui/app.js", "\"other\""), ("/ui/style.css", tag.as_str()), ("/livez", "*")] {
        let told = served.call("GET", path, &format!("if-none-match: {known}\r\n")).await;
        assert_eq!(told.status, 200, "{path} {told:?}");
    }
    let head = served.call("HEAD", "/ui/app.js", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(field(&head, "content-length"), field(&first, "content-length"));
}

#[tokio::test]
async fn the_page_wants_the_token_where_its_data_want_it_and_takes_it_as_a_password() {
    let served = Served::new(Cards { is_open_to_others: true, ..Cards::default() }).await;
    let basic = |said: &str| format!("authorization: Basic {}\r\n", BASE64_STANDARD.encode(said));
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    for path in ["/ui", "/ui/app.js", "/ui/style.css"] {
        let told = served.get(path).await;
        assert!(told.is_problem(401), "{path}");
        assert!(field(&told, "www-authenticate").is_some_and(|value| value.starts_with("basic ")), "{path}");
        for shown in [&*bearer, &*basic(&format!("anybody:{TOKEN}")), &*basic(&format!(":{TOKEN}"))] {
            let told = served.call("GET", path, shown).await;
            assert_eq!(told.status, 200, "{path} {shown}");
            assert!(!told.body.contains(TOKEN), "{path}");
        }
        for shown in [basic("anybody:wrong"), basic(TOKEN), "authorization: Basic %%%\r\n".to_owned()] {
            assert!(served.call("GET", path, &shown).await.is_problem(401), "{path} {shown}");
        }
    }
    // What a browser sends along unasked is good for nothing else.
    let shown = basic(&format!("anybody:{TOKEN}"));
    assert!(served.call("GET", "/v1/status", &shown).await.is_problem(401));
    assert!(served.call("POST", "/v1/reload", &shown).await.is_problem(401));
    assert!(served.get("/v1/status").await.is_problem(401));
    let own = Served::new(Cards::default()).await;
    let told = own.raw(b"GET /ui HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n").await;
    assert_eq!(told.status, 403, "a foreign name gets no page either: {told:?}");
}
