//! Which environment leads to which providers, and what is left out and why?

use super::*;

fn run(pairs: &[(&str, &str)]) -> Result<Discovered, NothingFound> {
    let all: Vec<String> = pairs.iter().map(|(name, _)| (*name).to_owned()).collect();
    let get =
        |name: &str| pairs.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
    discover(&get, &all)
}

#[test]
fn nothing_found_lists_the_names() {
    for pairs in [&[][..], &[("OPENAI_API_KEY", "")], &[("HOME", "/root"), ("OPENAI_API_KEY_2", "  ")]] {
        let nothing = run(pairs).unwrap_err();
        assert!(nothing.problems.is_empty());
        let told = nothing.to_string();
        for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OLLAMA_HOST", "*_BRIDGE_URL"] {
            assert!(told.contains(name), "{told}");
        }
    }
}

#[test]
fn keys_with_endings_are_further_credentials_in_order() {
    let got = run(&[
        ("OPENAI_API_KEY_WORK", "sk-work-11111111abcd"),
        ("OPENAI_API_KEY_10", "sk-ten-1111111efgh"),
        ("OPENAI_API_KEY_2", "sk-two-1111111ijkl"),
        ("OPENAI_API_KEY", "sk-one-1111111mnop"),
        ("OPENAI_API_KEY_FILE", "/etc/key"),
        ("ANTHROPIC_API_KEY", "sk-ant-11111qrst"),
    ])
    .unwrap();
    let names: Vec<String> =
        got.found.iter().map(|f| format!("{}/{} {}", f.provider, f.credential, f.last_four)).collect();
    assert_eq!(
        names,
        [
            "openai/default mnop",
            "openai/2 ijkl",
            "openai/10 efgh",
            "openai/work abcd",
            "anthropic/default qrst"
        ]
    );
    let route = got.plan.route(got.plan.route_names["gpt-4o"]);
    assert_eq!(route.groups[0].entries[0].targets.len(), 4);
    assert!(!got.text.contains("sk-"), "{}", got.text);
    assert!(got.plan.default_route.is_none() && got.plan.clients.is_empty());
    assert_eq!(got.plan.listen[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(got.plan.admin.address.to_string(), "127.0.0.1:9901");
    assert!(got.found[0].to_string().contains("OPENAI_API_KEY ····mnop  chat"), "{}", got.found[0]);
}

#[test]
fn addresses_are_read_as_their_own_clients_read_them() {
    for (variable, value, endpoint, path) in [
        ("OLLAMA_HOST", "box", "http://box:11434", "/v1"),
        ("OLLAMA_HOST", "http://box:1/", "http://box:1", "/v1"),
        ("OLLAMA_HOST", "0.0.0.0", "http://127.0.0.1:11434", "/v1"),
        ("OLLAMA_HOST", ":9", "http://127.0.0.1:9", "/v1"),
        ("OLLAMA_HOST", "https://box", "https://box:443", "/v1"),
        ("OLLAMA_HOST", "[::1]", "http://[::1]:11434", "/v1"),
        ("COPILOT_BRIDGE_URL", "http://bridge:3000", "http://bridge:3000", "/v1"),
        ("MY_OWN_BRIDGE_URL", "http://127.0.0.1:3000/v1/", "http://127.0.0.1:3000", "/v1"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:4000/v1", "http://127.0.0.1:4000", "/v1"),
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:4000", "http://127.0.0.1:4000", ""),
    ] {
        let got = run(&[(variable, value)]).unwrap_or_else(|nothing| panic!("{variable}={value}: {nothing}"));
        assert_eq!(&*got.plan.endpoints[0].name, endpoint, "{variable}={value}");
        assert_eq!(&*got.plan.providers[0].base_path, path, "{variable}={value}");
        assert_eq!(got.found.len(), 1);
        assert!(!got.found[0].has_key);
        assert!(got.plan.credentials[0].key.is_none());
    }
}

#[test]
fn our_own_address_is_not_a_provider() {
    let key = ("OPENAI_API_KEY", "sk-one-1111111mnop");
    for own in ["http://127.0.0.1:8080/v1", "http://localhost:8080/v1", "http://[::1]:8080"] {
        let got = run(&[key, ("OPENAI_BASE_URL", own)]).unwrap();
        assert_eq!(&*got.plan.endpoints[0].name, "https://api.openai.com:443", "{own}");
        assert!(run(&[("OPENAI_BASE_URL", own)]).is_err());
    }
}

#[test]
fn servers_of_another_make_are_not_offered_the_models_of_openai() {
    let got = run(&[
        ("OPENAI_API_KEY", "sk-one-1111111mnop"),
        ("GEMINI_API_KEY", "AIza-1111111111"),
        ("OLLAMA_HOST", "box"),
    ])
    .unwrap();
    let plan = &got.plan;
    assert_eq!(plan.route(plan.route_names["gpt-4o"]).groups.len(), 1);
    let gemini = plan.route(plan.route_names["gemini-2.5-flash"]);
    assert_eq!(
        plan.target(gemini.groups[0].entries[0].targets[0]).id.as_str(),
        "gemini/default/gemini-2.5-flash"
    );
    assert_eq!(plan.providers.len(), 3);
    assert!(run(&[("OLLAMA_HOST", "box")]).is_ok(), "ollama/MODEL can be asked for");
}

#[test]
fn what_cannot_be_used_is_told_without_its_value() {
    for pairs in [
        &[("OPENAI_BASE_URL", "https://user:canary@host/v1")][..],
        &[("OPENAI_BASE_URL", "http://far.example/canary")],
        &[("OPENAI_API_KEY", "canary\r\nx: y")],
        &[("OLLAMA_HOST", "canary\n  x: y")],
        &[("X_BRIDGE_URL", "canary")],
        &[("X_BRIDGE_URL", "http://${canary}/")],
    ] {
        let nothing = run(pairs).unwrap_err();
        assert!(!nothing.problems.is_empty(), "{pairs:?}");
        assert!(!nothing.to_string().contains("canary"), "{nothing}");
    }
}

#[test]
fn a_bridge_of_the_generate_dialect_is_used_where_its_switch_is_on() {
    let url = ("CLAUDE_BRIDGE_URL", "http://127.0.0.1:1/");
    let nothing = run(&[url]).unwrap_err();
    assert!(
        nothing.to_string().contains("CLAUDE_BRIDGE_URL is left out: CLAUDE_BRIDGE_ENABLED"),
        "{nothing}"
    );
    let got =
        run(&[url, ("CLAUDE_BRIDGE_ENABLED", "true"), ("CLAUDE_CODE_BRIDGE_URL", "http://box:2")]).unwrap();
    let providers: Vec<_> = got.plan.providers.iter().map(|p| (&*p.name, p.kind, &*p.base_path)).collect();
    let bridge = Kind::GenerateBridge;
    assert_eq!(providers, [("claude-bridge", bridge, ""), ("claude-code", bridge, "")]);
    assert!(
        got.plan.route_names.contains_key("claude-bridge/sonnet")
            || got.plan.route_names.contains_key("sonnet")
    );
}

#[cfg(feature = "bedrock")]
#[test]
fn clouds_are_used_where_the_environment_says_all_of_them() {
    let bedrock = ("AWS_BEARER_TOKEN_BEDROCK", "bedrock-0123456789");
    for (pairs, endpoint) in [
        (&[bedrock, ("AWS_REGION", "eu-west-1")][..], "https://bedrock-runtime.eu-west-1.amazonaws.com:443"),
        (
            &[bedrock, ("AWS_DEFAULT_REGION", "us-west-2")],
            "https://bedrock-runtime.us-west-2.amazonaws.com:443",
        ),
        (&[("COPILOT_GITHUB_TOKEN", "gho-0123456789")], "https://api.githubcopilot.com:443"),
    ] {
        let got = run(pairs).unwrap();
        assert_eq!(&*got.plan.endpoints[0].name, endpoint);
        let has_login = got.plan.credentials[0].login.is_some();
        assert_eq!(has_login, endpoint.contains("copilot"), "a GitHub token is exchanged");
    }
    let nothing = run(&[bedrock]).unwrap_err();
    assert!(nothing.to_string().contains("AWS_BEARER_TOKEN_BEDROCK is left out: AWS_REGION"), "{nothing}");
    let google = [
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/key.json"),
        ("GOOGLE_CLOUD_PROJECT", "p"),
        ("GOOGLE_CLOUD_LOCATION", "global"),
    ];
    assert!(run(&google).unwrap_err().to_string().contains("a file with kind: vertex"));
}
