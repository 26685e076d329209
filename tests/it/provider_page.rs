//! Does `docs/providers.md` say what the catalogue says?
//!
//! The table of the page is written from the catalogue: `UPDATE_GOLDEN=1 cargo nextest run
//! the_page_of_providers` writes it anew, between the two marks; the prose around it is kept.

use pointsman::base::api::Api;
use pointsman::catalog::{Ability, Entry, Tier, entries};
use std::fmt::Write as _;
use std::path::Path;

const BEGIN: &str = "<!-- written from the catalogue, by a test -->\n";
const END: &str = "<!-- end of what is written -->\n";

fn call(api: Api) -> &'static str {
    match api {
        Api::ChatCompletions => "chat",
        Api::Completions => "completions",
        Api::Embeddings => "embeddings",
        Api::Responses => "responses",
        Api::Messages => "messages",
        Api::CountTokens => "count_tokens",
        Api::GenerateContent => "generate_content",
        Api::Converse => "converse",
        Api::CohereChat => "cohere_chat",
        Api::OllamaChat => "ollama_chat",
        Api::Generate => "generate",
    }
}

fn section(page: &mut String, entry: &Entry) {
    let calls: Vec<&str> = entry.serves.iter().map(|api| call(*api)).collect();
    let urls: Vec<String> =
        entry.urls.iter().map(|url| format!("`{url}{}`", prefix(url, entry.prefix))).collect();
    let env: Vec<String> = entry.env.iter().chain(&entry.switch).map(|name| format!("`{name}`")).collect();
    let or = |list: &[String], none: &str| if list.is_empty() { none.to_owned() } else { list.join(", ") };
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(page, "| {name} | {value} |");
    };
    row(&format!("**{}**", entry.name), entry.note);
    row("address", &or(&urls, "none of its own"));
    row("calls", &calls.join(", "));
    row("proof", entry.auth.as_label());
    row("variables", &or(&env, "none"));
    if entry.is_http1_only {
        row("HTTP", "1.1 only");
    }
    if !entry.drop_params.is_empty() {
        row("said to refuse", &entry.drop_params.join(", "));
    }
    if let Some(chain) = entry.chain {
        row("fallback chain", &format!("place {}, {} requests a minute", chain.place, chain.rpm));
    }
    for model in entry.models {
        let tier = model.tier.map_or("", Tier::as_label);
        let window = model.context.map_or(String::new(), |context| format!(", window {context}"));
        let output = model.max_output.map_or(String::new(), |output| format!(", answers up to {output}"));
        let price =
            model.price.map_or(String::new(), |(input, output)| format!(", {input} $ in and {output} $ out"));
        let can: Vec<&str> = model.skills.can().iter().map(Ability::as_label).collect();
        let can = if can.is_empty() { String::new() } else { format!(", {}", can.join(" ")) };
        let told = format!("{tier}{window}{output}{price}{can}");
        row(&format!("`{}`", model.name), told.trim_start_matches(", "));
    }
    let verified = if entry.source.is_verified { "" } else { "; **unverified**" };
    row("source", &format!("{}, {}{verified}", entry.source.what, entry.source.read));
}

fn prefix(url: &str, prefix: &'static str) -> &'static str {
    if url.ends_with(prefix) { "" } else { prefix }
}

#[test]
fn the_page_of_providers_says_what_the_catalogue_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/providers.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    let mut expected = String::new();
    for entry in entries() {
        expected.push_str("\n| | |\n|---|---|\n");
        section(&mut expected, entry);
    }
    expected.push('\n');
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(written, expected, "the page is old; UPDATE_GOLDEN=1 writes it anew");
    for entry in entries() {
        assert!(page.contains(&format!("**{}**", entry.name)), "{}", entry.name);
    }
}
