//! Credentials that are no plain key: fetched and renewed tokens, signed requests.

use crate::scene::trail;
use crate::stage::{Stage, eventually, plan};
use pointsman::config::{self, Source};
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::grants::{self, AwsAccount};
use pointsman::standin::{Provider, Reply, Script};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);
const HALF_HOUR: Duration = Duration::from_secs(1800);
const GITHUB: &str = "gho_0123456789";

/// Keys that AWS's documentation uses.
pub const ACCOUNT: AwsAccount = AwsAccount {
    access_key_id: "AKIDEXAMPLE",
    secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    session_token: Some("session/token+0123456789=="),
    region: "eu-central-1",
    service: "bedrock",
};

/// One provider `p` at `base_url` with one credential `c`, behind the route `chat`.
pub fn one(base_url: &str, login: &str, more: &str) -> String {
    format!(
        "providers:\n  p: {{kind: openai, base_url: \"{base_url}\", credentials: [{{name: c, {login}}}]{more}}}\n\
         routes:\n  chat: {{targets: [{{provider: p, model: m}}]}}\n"
    )
}

fn copilot(exchange: &Provider) -> String {
    format!("copilot: {{token: \"{GITHUB}\", endpoint: \"{}\"}}", exchange.origin())
}

fn oauth(service: &Provider, more: &str) -> String {
    let url = service.origin();
    format!("oauth: {{token_url: \"{url}/token\", client_id: app, refresh_token: refresh-0{more}}}")
}

async fn chat(stage: &Stage) -> Answer {
    Call::chat("chat").send(stage.data).await.unwrap()
}

/// Sends that many requests at once; all must be answered well.
async fn crowd(stage: &Stage, count: usize) {
    let address = stage.data;
    let call = || async move { Call::chat("chat").limit(LIMIT).send(address).await };
    let calls: Vec<_> = (0..count).map(|_| tokio::spawn(call())).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status, 200);
    }
}

fn bearers(provider: &Provider) -> Vec<String> {
    let seen = provider.seen();
    seen.iter().map(|seen| seen.header("authorization").unwrap_or_default().to_owned()).collect()
}

/// Requirements, row B14.
#[tokio::test]
async fn fifty_requests_share_one_copilot_token_and_go_where_it_says() {
    let configured = Provider::start(Reply::ok()).await.unwrap();
    let named = Provider::start(Reply::ok()).await.unwrap();
    let exchange = Provider::start(grants::copilot(GITHUB, Some(HALF_HOUR), named.origin())).await.unwrap();
    let stage = Stage::open(&one(&configured.origin(), &copilot(&exchange), ", http: 2")).await;
    crowd(&stage, 50).await;
    assert_eq!(exchange.count(), 1);
    assert_eq!((configured.count(), named.count()), (0, 50));
    for seen in named.seen() {
        assert_eq!(seen.path, "/chat/completions");
        assert_eq!(seen.version, pointsman::standin::HttpVersion::Http11, "whatever `http` says");
        assert_eq!(seen.header("authorization"), Some("Bearer tid-1"));
        assert_eq!(seen.header("editor-version"), Some("vscode/1.85.1"));
        assert_eq!(seen.header("openai-intent"), Some("conversation-edits"));
        assert_eq!(seen.header("copilot-integration-id"), Some("vscode-chat"));
        assert!(!format!("{:?}", seen.headers).contains(GITHUB), "the GitHub token is for GitHub");
    }
}

#[tokio::test]
async fn a_copilot_token_of_three_seconds_is_exchanged_again_before_it_ends() {
    let named = Provider::start(Reply::ok()).await.unwrap();
    let life = Some(Duration::from_secs(3));
    let exchange = Provider::start(grants::copilot(GITHUB, life, named.origin())).await.unwrap();
    let stage = Stage::open(&one(&named.origin(), &copilot(&exchange), "")).await;
    assert_eq!(chat(&stage).await.status, 200);
    // Nobody asks: the token is renewed all the same.
    assert!(exchange.until(LIMIT, |seen| seen.len() >= 2).await);
    let seen = exchange.seen();
    let gap = seen[1].arrived.saturating_sub(seen[0].arrived);
    assert!(gap < Duration::from_secs(3), "{gap:?}");
    crowd(&stage, 10).await;
    let bearers = bearers(&named);
    assert_eq!(bearers[0], "Bearer tid-1");
    assert!(bearers.last().unwrap() > &bearers[0], "{bearers:?}");
}

#[tokio::test]
async fn nobody_waits_for_a_renewal_while_the_old_token_is_good() {
    let named = Provider::start(Reply::ok()).await.unwrap();
    let life = Some(Duration::from_secs(8));
    let good = grants::copilot(GITHUB, life, named.origin());
    let exchange = Provider::start(good).await.unwrap();
    let stage = Stage::open(&one(&named.origin(), &copilot(&exchange), "")).await;
    assert_eq!(chat(&stage).await.status, 200);
    exchange.set_script(Reply::silence());
    assert!(exchange.until(LIMIT, |seen| seen.len() >= 2).await, "it is asked for half-way");
    crowd(&stage, 5).await;
    assert_eq!(exchange.count(), 2, "one renewal is under way");
    assert_eq!(bearers(&named), vec!["Bearer tid-1"; 6]);
}

/// Requirements, row C9.
#[tokio::test]
async fn twenty_requests_share_one_refresh_and_a_rotated_token_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("refresh.json");
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let service = Provider::start(grants::oauth("app", "refresh-0", HALF_HOUR)).await.unwrap();
    let login = oauth(&service, &format!(", store: \"{}\"", store.display()));
    let yaml = one(&provider.base_url(), &login, "");
    let stage = Stage::open(&yaml).await;
    crowd(&stage, 20).await;
    assert_eq!(service.count(), 1);
    assert_eq!(bearers(&provider), vec!["Bearer access-1"; 20]);
    stage.swap(&yaml);
    crowd(&stage, 2).await;
    assert_eq!(service.count(), 1, "a reload keeps what it has");
    drop(stage);
    // `refresh-0` is used up; only what was kept works.
    let restarted = Stage::open(&yaml).await;
    crowd(&restarted, 2).await;
    assert_eq!(service.count(), 2);
    assert_eq!(bearers(&provider).pop().unwrap(), "Bearer access-2");
    assert!(std::fs::read_to_string(&store).unwrap().contains("refresh-2"));
}

#[tokio::test]
async fn a_token_that_is_rejected_is_fetched_anew_once_and_the_client_sees_nothing() {
    let rule = |seen: &pointsman::standin::Seen| match seen.header("authorization") {
        Some("Bearer access-1") => Reply::status(401),
        _ => Reply::ok(),
    };
    let provider = Provider::start(Script::rule(rule)).await.unwrap();
    let service = Provider::start(grants::oauth("app", "refresh-0", HALF_HOUR)).await.unwrap();
    let stage = Stage::open(&one(&provider.base_url(), &oauth(&service, ""), "")).await;
    let answer = chat(&stage).await;
    assert_eq!(answer.status, 200);
    assert_eq!(trail(&answer), ["p/c:401", "p/c:ok"]);
    provider.set_script(Reply::status(401));
    let answer = chat(&stage).await;
    assert_eq!((answer.status, service.count()), (502, 2), "two in a row: the token is not to blame");
    assert_eq!(chat(&stage).await.status, 503);
    assert_eq!((provider.count(), service.count()), (3, 2));
}

#[tokio::test]
async fn without_a_token_the_next_target_serves_until_there_is_one() {
    let first = Provider::start(Reply::says("first")).await.unwrap();
    let second = Provider::start(Reply::says("second")).await.unwrap();
    let service = Provider::start(grants::oauth("other", "refresh-0", HALF_HOUR)).await.unwrap();
    let yaml = format!(
        "providers:\n  one: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, {}}}]}}\n  \
         two: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: sk-two-0123456789}}]}}\n\
         routes:\n  chat: {{targets: [{{provider: one, model: a, priority: 1}}, {{provider: two, model: b, priority: 2}}]}}\n",
        first.base_url(),
        oauth(&service, ""),
        second.base_url()
    );
    let stage = Stage::open(&yaml).await;
    let answer = chat(&stage).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "second"));
    assert_eq!(trail(&answer), ["one/k:auth", "two/k:ok"]);
    assert_eq!(first.count(), 0, "nothing is sent without proof");
    assert!(stage.metric("pointsman_cooldown_remaining_seconds", &["one/k/a"]) > 200.0);
    crowd(&stage, 3).await;
    assert_eq!(service.count(), 1, "the refusal is not asked for again at once");
    // Mended: the credential comes back by itself, long before its rest would end.
    service.set_script(grants::oauth("app", "refresh-0", HALF_HOUR));
    assert!(service.until(LIMIT, |seen| seen.len() >= 2).await);
    eventually("the rest ends", || {
        stage.metric("pointsman_cooldown_remaining_seconds", &["one/k/a"]).abs() < f64::EPSILON
    })
    .await;
    assert_eq!(chat(&stage).await.text(), "first");
}

#[tokio::test]
async fn a_token_that_a_provider_quotes_does_not_reach_the_client() {
    let body = "{\"error\":{\"message\":\"no: access-1\",\"code\":\"invalid_value\"}}";
    let provider = Provider::start(Reply::body(400, "application/json", body)).await.unwrap();
    let service = Provider::start(grants::oauth("app", "refresh-0", HALF_HOUR)).await.unwrap();
    let yaml = one(&provider.base_url(), &oauth(&service, ""), "") + "default_route: chat\n";
    let stage = Stage::open(&yaml).await;
    let answer = chat(&stage).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body_text().contains("no: [redacted]"), "{}", answer.body_text());
    provider.set_script(Reply::echo());
    let answer = Call::get("/v1/files").send(stage.data).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(bearers(&provider).pop().unwrap(), "Bearer access-1", "what is passed through is proved too");
    assert_eq!(service.count(), 1);
}

#[tokio::test]
async fn entra_gives_the_token_of_an_application() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let service =
        Provider::start(grants::entra("contoso.example", "app", "s~/+&=1", HALF_HOUR)).await.unwrap();
    let login = format!(
        "azure_entra: {{tenant: contoso.example, client_id: app, client_secret: \"s~/+&=1\", endpoint: \"{}\"}}",
        service.origin()
    );
    let stage = Stage::open(&one(&provider.base_url(), &login, "")).await;
    crowd(&stage, 3).await;
    assert_eq!((service.count(), bearers(&provider)), (1, vec!["Bearer entra-1".to_owned(); 3]));
}

/// A key file as Google makes them, of a key that lives as long as the test; with its public half.
fn service_account(token_uri: &str) -> (tempfile::NamedTempFile, Vec<u8>) {
    use ring::signature::KeyPair as _;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::pki_types::pem::PemObject;
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        .output()
        .unwrap();
    let pem = String::from_utf8(made.stdout).unwrap();
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let pair = ring::rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let json = serde_json::json!({
        "type": "service_account",
        "client_email": "edge@project.example",
        "private_key_id": "k1",
        "private_key": pem,
        "token_uri": token_uri,
    });
    std::fs::write(file.path(), serde_json::to_string_pretty(&json).unwrap()).unwrap();
    (file, pair.public_key().as_ref().to_vec())
}

#[tokio::test]
async fn google_gives_a_token_for_a_request_signed_with_a_service_account() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let service = Provider::start(Reply::status(500)).await.unwrap();
    let uri = format!("{}/token", service.origin());
    let (file, public_key) = service_account(&uri);
    service.set_script(grants::google(public_key, "edge@project.example", &uri));
    let login = format!("google: {{service_account: {{file: \"{}\"}}}}", file.path().display());
    let yaml = "version: 1\nlisten: [{address: \"127.0.0.1:0\"}]\nadmin: {address: \"127.0.0.1:0\"}\n"
        .to_owned()
        + &one(&provider.base_url(), &login, "");
    let source = Source { name: "test.yaml", text: &yaml, is_private: true, is_variable: false };
    let reading = config::read(&source, &pointsman::secrets::Host);
    let problems = format!("{:?}", reading.problems);
    let stage = Stage::of(reading.plan.expect(&problems)).await;
    crowd(&stage, 3).await;
    assert_eq!((service.count(), bearers(&provider)), (1, vec!["Bearer ya29-1".to_owned(); 3]));
}

#[tokio::test]
async fn google_s_metadata_service_gives_a_token_of_the_instance() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let token = "{\"access_token\":\"ya29.instance\",\"expires_in\":3599,\"token_type\":\"Bearer\"}";
    let service = Provider::start(Reply::body(200, "application/json", token)).await.unwrap();
    let login = format!("google: {{metadata: true, endpoint: \"{}\"}}", service.origin());
    let stage = Stage::open(&one(&provider.base_url(), &login, "")).await;
    crowd(&stage, 2).await;
    assert_eq!(bearers(&provider), vec!["Bearer ya29.instance"; 2]);
    let asked = service.last().unwrap();
    assert!(
        asked.path.starts_with("/computeMetadata/v1/instance/service-accounts/default/token?scopes="),
        "{}",
        asked.path
    );
    assert_eq!(asked.header("metadata-flavor"), Some("Google"));
}

#[cfg(feature = "bedrock")]
#[tokio::test]
async fn requests_are_signed_for_aws_with_the_keys_of_the_instance() {
    for http in ["1", "2"] {
        let provider = Provider::start(grants::aws(ACCOUNT)).await.unwrap();
        let imds = Provider::start(grants::imds(ACCOUNT, HALF_HOUR)).await.unwrap();
        let login = format!("aws: {{from: imds, endpoint: \"{}\", region: eu-central-1}}", imds.origin());
        let more = format!(", http: {http}, headers: {{x-extra: \"a   b\"}}");
        let base = format!("{}/openai/v1", provider.origin());
        let stage = Stage::open(&one(&base, &login, &more)).await;
        crowd(&stage, 10).await;
        let streamed = Call::chat_stream("chat").send(stage.data).await.unwrap();
        assert_eq!((streamed.status, streamed.has_end_marker()), (200, true), "http {http}");
        assert_eq!(imds.count(), 3, "session, role and keys, once");
        assert!(provider.seen().iter().all(|seen| seen.header("x-amz-security-token").is_some()));
        let sent = format!("{:?}", provider.seen());
        assert!(!sent.contains(ACCOUNT.secret_access_key), "the secret key signs and is never sent");
    }
}

#[cfg(feature = "bedrock")]
#[tokio::test]
async fn keys_of_aws_that_are_written_sign_without_asking_anyone() {
    let account = AwsAccount { session_token: None, ..ACCOUNT };
    let provider = Provider::start(grants::aws(account)).await.unwrap();
    let login = |secret: &str| {
        format!("aws: {{access_key_id: AKIDEXAMPLE, secret_access_key: \"{secret}\", region: eu-central-1}}")
    };
    let stage = Stage::open(&one(&provider.base_url(), &login(ACCOUNT.secret_access_key), "")).await;
    crowd(&stage, 3).await;
    let call = Call::json(
        "/v1/chat/completions?b=2&a=%3A",
        &serde_json::json!({"model": "chat", "messages": [{"role": "user", "content": "é"}]}),
    );
    assert_eq!(call.send(stage.data).await.unwrap().status, 200, "the query is signed as well");
    let wrong = Stage::open(&one(&provider.base_url(), &login("another-secret"), "")).await;
    let answer = chat(&wrong).await;
    assert_eq!(answer.status, 502, "{}", answer.body_text());
    assert_eq!(trail(&answer), ["p/c:403"]);
}

/// Variables as a platform sets them.
#[cfg(feature = "bedrock")]
pub struct Platform(pub Vec<(&'static str, String)>);

#[cfg(feature = "bedrock")]
impl config::Outside for Platform {
    fn env(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    fn secret(
        &self,
        what: &config::SecretRef,
    ) -> Result<pointsman::base::secret::Secret, config::SecretFault> {
        match what {
            config::SecretRef::Env(name) => {
                config::secret_of(self.env(name).ok_or(config::SecretFault::NotSet)?)
            }
            _ => Err(config::SecretFault::Missing),
        }
    }

    fn document(
        &self,
        what: &config::SecretRef,
    ) -> Result<pointsman::base::secret::Secret, config::SecretFault> {
        match what {
            config::SecretRef::Env(name) => {
                let text = self.env(name).ok_or(config::SecretFault::NotSet)?;
                Ok(pointsman::base::secret::Secret::new(text))
            }
            _ => Err(config::SecretFault::Missing),
        }
    }
}

#[cfg(feature = "bedrock")]
#[tokio::test]
async fn keys_of_aws_come_from_wherever_the_platform_keeps_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let session = ACCOUNT.session_token.unwrap();
    let (id, secret) = (ACCOUNT.access_key_id, ACCOUNT.secret_access_key);
    std::fs::write(path("token"), "the.web.identity\n").unwrap();
    std::fs::write(
        path("credentials"),
        format!(
            "[work]\naws_access_key_id={id}\naws_secret_access_key={secret}\naws_session_token={session}\n"
        ),
    )
    .unwrap();
    let sts = Provider::start(Script::rule(move |seen| {
        let form = grants::form_of(seen);
        let has = |name: &str, value: &str| form.get(name).is_some_and(|given| given == value);
        if !(has("Action", "AssumeRoleWithWebIdentity")
            && has("RoleArn", "arn:aws:iam::1:role/edge")
            && has("WebIdentityToken", "the.web.identity"))
        {
            return Reply::body(403, "text/xml", "<Error><Code>AccessDenied</Code></Error>");
        }
        let keys = format!(
            "<R><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>{session}</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></R>"
        );
        Reply::body(200, "text/xml", keys)
    }))
    .await
    .unwrap();
    let agent = Provider::start(Script::rule(move |seen| {
        if (seen.path.as_str(), seen.header("authorization")) != ("/v2/x", Some("Basic abc")) {
            return Reply::status(403);
        }
        let keys = serde_json::json!({"AccessKeyId": id, "SecretAccessKey": secret, "Token": session});
        Reply::body(200, "application/json", keys.to_string())
    }))
    .await
    .unwrap();
    let environment = vec![
        ("AWS_ACCESS_KEY_ID", id.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
        ("AWS_SESSION_TOKEN", session.to_owned()),
    ];
    let shared = vec![
        ("AWS_SHARED_CREDENTIALS_FILE", path("credentials")),
        ("AWS_CONFIG_FILE", path("none")),
        ("AWS_PROFILE", "work".to_owned()),
    ];
    let web = vec![
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/edge".to_owned()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path("token")),
        ("AWS_ENDPOINT_URL_STS", sts.origin()),
    ];
    let container = vec![
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v2/x", agent.origin())),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic abc".to_owned()),
    ];
    // `auto` passes over a shared file without the profile to the next that has keys.
    let auto = [vec![("AWS_SHARED_CREDENTIALS_FILE", path("none"))], web.clone()].concat();
    for (from, variables) in [
        ("environment", environment),
        ("shared", shared),
        ("web_identity", web),
        ("container", container),
        ("auto", auto),
    ] {
        let provider = Provider::start(grants::aws(ACCOUNT)).await.unwrap();
        let login = format!("aws: {{from: {from}, region: eu-central-1}}");
        let yaml = "version: 1\nlisten: [{address: \"127.0.0.1:0\"}]\nadmin: {address: \"127.0.0.1:0\"}\n"
            .to_owned()
            + &one(&provider.base_url(), &login, "");
        let source = Source { name: "test.yaml", text: &yaml, is_private: true, is_variable: false };
        let reading = config::read(&source, &Platform(variables));
        let problems = format!("{from}: {:?}", reading.problems);
        let stage = Stage::of(reading.plan.expect(&problems)).await;
        let answer = chat(&stage).await;
        assert_eq!(answer.status, 200, "{from}: {}", answer.body_text());
    }
    assert_eq!((sts.count(), agent.count()), (2, 1));
}

#[test]
fn the_login_is_shown_nowhere_but_by_its_sort() {
    let plan = plan(&one(
        "http://127.0.0.1:9/v1",
        "oauth: {token_url: \"https://h/t\", client_id: app, refresh_token: sk-canary-1, client_secret: sk-canary-2}",
        "",
    ));
    let text = format!("{plan:?}");
    assert!(text.contains("client_id") && !text.contains("sk-canary"), "{text}");
}
